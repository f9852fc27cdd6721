//! Texts to the 77 token ids that CLIP's text encoder takes.
