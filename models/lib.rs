//! The manifests of known networks: file formats, keys and shapes.
