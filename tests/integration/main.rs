//! Each capability from outside: real processes, real sockets.

mod app_health;
mod audit;
mod defences;
mod drain;
mod durability;
mod expiry;
mod explain;
mod external;
mod fuzz_replay;
mod health_and_reflection;
mod import_edges;
mod policy_corpus;
mod preview;
mod protocols;
mod ready;
mod reconnect;
mod replicas;
mod restarts;
mod rollout;
mod rows_data_path;
mod rows_trust;
mod secrets;
mod secrets_scan;
mod smuggling;
mod up;
mod views_on_the_wire;
