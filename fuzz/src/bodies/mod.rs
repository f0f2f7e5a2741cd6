//! One body a target: takes any bytes, and panics where a promise does not hold.

mod content;
mod discovery;
mod document;
mod hpack;
mod http2;
mod import;
mod names;
mod path;
mod request_head;
mod response_head;
mod weft1;

/// What a target does with an input.
pub type Body = fn(&[u8]);

/// Each target by its name, which is also that of its folder of seeds.
pub const TARGETS: [(&str, Body); 12] = [
    ("document", document::document),
    ("import", import::import),
    ("path", path::path),
    ("server_name", names::server_name),
    ("join_token", names::join_token),
    ("http2", http2::http2),
    ("hpack", hpack::hpack),
    ("request_head", request_head::request_head),
    ("response_head", response_head::response_head),
    ("content", content::content),
    ("weft1", weft1::weft1),
    ("discovery", discovery::discovery),
];

/// Runs one target.
pub fn run(target: &str, input: &[u8]) {
    let body = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, body) = body.unwrap_or_else(|| panic!("there is no target {target}"));
    body(input);
}
