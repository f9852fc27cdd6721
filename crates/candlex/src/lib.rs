//! What candle lacks. Admission rule: it could have been in candle; delete it when it is.

pub mod finite;
pub mod params;
pub mod rng;
pub mod tape;
pub mod weights;
