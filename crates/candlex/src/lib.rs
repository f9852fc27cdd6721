//! What candle lacks: seeded noise, a tape, ordered parameters, strict weights.
