//! The protocol: tasks, stream, replay buffer and selection policies over ids and plain numbers.
