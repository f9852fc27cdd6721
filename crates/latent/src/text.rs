//! The text encoder of CLIP, frozen: token ids to embeddings.
