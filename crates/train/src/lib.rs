//! One task's optimization, its checkpoints, and the loop over the stream.
