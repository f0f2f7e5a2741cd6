//! gRPC in rules: `package.Service/Method` says the `POST` and the path that a call of that method is (gRPC over HTTP/2, "Requests").

use std::{fmt, str::FromStr};

use crate::{
    http::Method,
    lists::{Match, NonEmpty},
    path::PathPattern,
    pattern::{PatternError, string_form},
};

/// `shop.v1.Orders/Get`, or `shop.v1.Orders/*` for every method of the service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GrpcMethod(Box<str>);

/// What these methods are in HTTP. `None` never happens: the characters of a method's name are those of a path.
pub(crate) fn as_http(named: &NonEmpty<GrpcMethod>) -> Option<(Match<Method>, Match<PathPattern>)> {
    let paths = named.iter().map(|method| format!("/{method}").parse());
    let paths = NonEmpty::new(paths.collect::<Result<Vec<PathPattern>, _>>().ok()?)?;
    Some((
        Match::OneOf(NonEmpty::one(POST.parse().ok()?)),
        Match::OneOf(paths),
    ))
}

/// Whether methods and paths say nothing but calls of gRPC, so that people read them as such. A package must be named: `/users/get`
/// is a path like any other.
pub(crate) fn of_http(
    methods: &Match<Method>,
    paths: &Match<PathPattern>,
) -> Option<NonEmpty<GrpcMethod>> {
    let [method] = methods.listed() else {
        return None;
    };
    if method.as_str() != POST {
        return None;
    }
    let named = paths.listed().iter().map(|path| {
        let named: GrpcMethod = path.as_str().strip_prefix('/')?.parse().ok()?;
        named.0.contains('.').then_some(named)
    });
    NonEmpty::new(named.collect::<Option<Vec<_>>>()?)
}

impl FromStr for GrpcMethod {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = |problem| PatternError::new("a gRPC method", text, problem);
        if text.len() > LENGTH_LIMIT {
            return Err(error("it is longer than 512 bytes"));
        }
        if text.starts_with('/') {
            return Err(error("it is written without the `/` at the beginning"));
        }
        let Some((service, method)) = text.split_once('/') else {
            return Err(error(
                "expected `package.Service/Method`, or `package.Service/*` for every method",
            ));
        };
        if !service.split('.').all(is_identifier) {
            return Err(error("the service is not `package.Service`"));
        }
        if method != "*" && !is_identifier(method) {
            return Err(error("the method is neither a name nor `*`"));
        }
        Ok(Self(text.into()))
    }
}

/// As in the language of protocol buffers.
fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl fmt::Display for GrpcMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_form!(
    GrpcMethod,
    "a gRPC method, `package.Service/Method`, or `package.Service/*`"
);

const POST: &str = "POST";
const LENGTH_LIMIT: usize = 512;

#[cfg(test)]
mod tests {
    use crate::http::HttpCondition;

    fn read(json: &str) -> Result<HttpCondition, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn methods_are_post_and_their_path_and_are_written_as_methods_again() {
        let grpc = read(r#"{"grpc": ["shop.v1.Orders/Get", "shop.v1.Carts/*"]}"#).unwrap();
        let http =
            read(r#"{"methods": ["POST"], "paths": ["/shop.v1.Orders/Get", "/shop.v1.Carts/*"]}"#);
        assert_eq!(Ok(&grpc), http.as_ref());
        let written = serde_json::to_string(&grpc).unwrap();
        assert_eq!(
            written,
            r#"{"grpc":["shop.v1.Orders/Get","shop.v1.Carts/*"]}"#
        );
        assert_eq!(read(&written), Ok(grpc));
    }

    #[test]
    fn what_is_no_grpc_stays_methods_and_paths() {
        for json in [
            r#"{"methods":["POST"],"paths":["/users/get"]}"#,
            r#"{"methods":["GET","POST"],"paths":["/shop.Orders/Get"]}"#,
            r#"{"methods":["POST"],"paths":["/shop.Orders/Get","/health"]}"#,
            r#"{"methods":["POST"],"paths":["/shop.Orders/**"]}"#,
            r#"{"methods":["POST"]}"#,
            r#"{"paths":["/shop.Orders/Get"]}"#,
        ] {
            let condition = read(json).unwrap();
            assert_eq!(serde_json::to_string(&condition).unwrap(), json);
        }
    }

    #[test]
    fn what_names_no_method_is_an_error() {
        for (json, problem) in [
            (r#"{"grpc": []}"#, "empty"),
            (r#"{"grpc": ["/shop.Orders/Get"]}"#, "without the `/`"),
            (
                r#"{"grpc": ["shop.Orders"]}"#,
                "expected `package.Service/Method`",
            ),
            (r#"{"grpc": ["shop.*/Get"]}"#, "`package.Service`"),
            (r#"{"grpc": ["shop.Orders/Get*"]}"#, "neither a name"),
            (r#"{"grpc": ["shop.Orders/Get/x"]}"#, "neither a name"),
            (
                r#"{"grpc": ["a.B/C"], "methods": ["POST"]}"#,
                "`grpc` says them itself",
            ),
            (
                r#"{"grpc": ["a.B/C"], "paths": ["/x"]}"#,
                "`grpc` says them itself",
            ),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(problem), "{json}: {error}");
        }
    }
}
