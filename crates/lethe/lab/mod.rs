//! The theory lab: experiments on the modern Hopfield network itself, each a section of a page with its tables.
//!
//! | experiment | file | the paper |
//! |---|---|---|
//! | E1 energy rise | [`rise`] | section 4, appendix E |
//! | E2 replay gain | [`replay`] | section 5, appendix H |
//! | E3 regimes | [`regimes`] | beyond it |
//! | E5 images | [`images`] | beyond it |

mod image_arms;
mod image_tasks;
pub mod images;
pub mod regimes;
pub mod replay;
mod replication;
pub mod rise;
pub mod setting;
