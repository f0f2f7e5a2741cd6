//! Journeys of users, through `meshctl` and `curl` alone.

mod allow;
mod edit;
mod exit_codes;
mod firewall;
mod first_day;
mod formats;
mod operator;
mod preview;
