//! A few seconds of load: nothing fails, and memory stays where it is.

mod steady;
