//! Journeys of users, through `meshctl` and `curl` alone.

mod exit_codes;
mod first_day;
mod formats;
