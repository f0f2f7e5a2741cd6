//! What must happen to attacks on the data path: rows of the threat table, each with its number in the names.

mod attack;
mod row_01;
mod row_02;
mod row_03;
mod row_04;
mod row_05;
