//! What was run and what was measured, and the statistics of forgetting.
