//! Pages of resources, in the order of their keys.
//!
//! A token names the last key of a page, so that pages stay right whatever is written between them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use tonic::Status;
use weft_wire::{Kind, ResourceKey, key_of, v1};

pub(super) fn page(
    request: &v1::ListRequest,
    resources: Vec<v1::Resource>,
    revision: u64,
) -> Result<v1::ListResponse, Status> {
    let kind = read_kind(&request.kind)?;
    let after = read_token(&request.page_token)?;
    let size = read_size(request.page_size)?;
    let is_asked = |key: &ResourceKey, resource: &v1::Resource| {
        kind.is_none_or(|kind| key.kind == kind)
            && (request.namespace.is_empty()
                || key
                    .namespace
                    .as_ref()
                    .is_some_and(|name| name.as_str() == request.namespace))
            && (request.set.is_empty() || resource.set == request.set)
            && after.as_ref().is_none_or(|after| key > after)
    };
    let mut asked: Vec<(ResourceKey, v1::Resource)> = resources
        .into_iter()
        .filter_map(|resource| Some((key_of(&resource).ok()?, resource)))
        .filter(|(key, resource)| is_asked(key, resource))
        .collect();
    asked.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut page = v1::ListResponse {
        revision,
        ..v1::ListResponse::default()
    };
    let mut bytes = 0;
    let mut last = None;
    for (key, resource) in asked {
        bytes += resource.encoded_len();
        let is_full =
            page.resources.len() >= size || (bytes > PAGE_BYTES && !page.resources.is_empty());
        if is_full {
            page.next_page_token = last.as_ref().map(write_token).unwrap_or_default();
            break;
        }
        page.resources.push(resource);
        last = Some(key);
    }
    Ok(page)
}

pub(super) fn read_kind(kind: &str) -> Result<Option<Kind>, Status> {
    if kind.is_empty() {
        return Ok(None);
    }
    let known = Kind::ALL.into_iter().find(|known| known.as_str() == kind);
    known.map(Some).ok_or_else(|| {
        Status::invalid_argument(
            "kind: is not Mesh, Service, Allow, Quarantine or NamespaceSettings",
        )
    })
}

fn read_size(size: u32) -> Result<usize, Status> {
    match usize::try_from(size) {
        Ok(0) => Ok(DEFAULT_PAGE),
        Ok(size) if size <= LARGEST_PAGE => Ok(size),
        _ => Err(Status::invalid_argument(format!(
            "page_size: at most {LARGEST_PAGE}"
        ))),
    }
}

fn read_token(token: &str) -> Result<Option<ResourceKey>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let key = bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .and_then(|text| text.parse().ok());
    key.map(Some)
        .ok_or_else(|| Status::invalid_argument("page_token: is none of this server's"))
}

fn write_token(key: &ResourceKey) -> String {
    URL_SAFE_NO_PAD.encode(key.to_string())
}

const DEFAULT_PAGE: usize = 500;
const LARGEST_PAGE: usize = 5000;
/// Well below what a gRPC client takes in one message by default.
const PAGE_BYTES: usize = 3 << 20;

#[cfg(test)]
#[path = "list_tests.rs"]
mod tests;
