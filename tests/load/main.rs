//! A few seconds of load, or of floods: nothing fails, and memory stays where it is.

mod floods;
mod steady;
