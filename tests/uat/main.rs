//! Journeys of users, through `meshctl` and `curl` alone.

mod first_day;
mod formats;
