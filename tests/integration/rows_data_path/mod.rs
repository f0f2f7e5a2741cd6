//! What must happen to attacks on the data path: rows of the threat table, each with its number in the names.

pub(crate) mod apps;
mod attack;
mod learn;
pub(crate) mod open;
mod row_01;
mod row_02;
mod row_03;
mod row_04;
mod row_05;
mod row_11;
mod row_12;
mod row_13;
mod row_14;
mod row_15;
mod row_16;
mod row_17;
pub(crate) mod shop;
