//! What must happen to attacks on the data path: rows of the threat table, each with its number in the names.

pub(crate) mod apps;
pub(crate) mod frames;
pub(crate) mod open;
mod row_11;
mod row_12;
mod row_13;
mod row_14;
mod row_15;
mod row_16;
mod row_17;
pub(crate) mod shop;
