//! Seconds: does the README's example do what the README says?

mod shop;
