//! The theory lab: experiments on the modern Hopfield network itself, each a section of a page with its tables.
//!
//! | experiment | file | the paper |
//! |---|---|---|
//! | E1 energy rise | [`rise`] | section 4, appendix E |
//! | E2 replay gain | [`replay`] | section 5, appendix H |
//! | E3 regimes | [`regimes`] | beyond it |
//! | E4 Boltzmann machine | [`boltzmann`] | sections 4.2, 5.2 |
//! | E5 images | [`images`] | beyond it |
//! | E6 bridge to learned scores | [`bridge`] | beyond it |

pub mod boltzmann;
mod bounds;
pub mod bridge;
mod estimators;
mod family;
mod image_arms;
mod image_tasks;
pub mod images;
mod population;
pub mod regimes;
pub mod replay;
mod replication;
pub mod rise;
mod ruling;
pub mod school;
pub mod setting;
