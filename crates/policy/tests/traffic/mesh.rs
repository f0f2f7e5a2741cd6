//! The mesh whose traffic was recorded: who calls what, and with which kinds of path.

/// `callers`: names in `shop`, unless they say another namespace. `method`: `-` for bytes, `CONNECT`, or methods that each path is
/// asked with. In a path, `{…}` is filled in anew for each request.
pub(crate) struct Route {
    pub(crate) callers: &'static [&'static str],
    pub(crate) target: &'static str,
    pub(crate) methods: &'static [&'static str],
    pub(crate) path: &'static str,
    pub(crate) upgrade: Option<&'static str>,
}

const fn route(
    callers: &'static [&'static str],
    target: &'static str,
    methods: &'static [&'static str],
    path: &'static str,
) -> Route {
    Route {
        callers,
        target,
        methods,
        path,
        upgrade: None,
    }
}

const fn socket(
    callers: &'static [&'static str],
    target: &'static str,
    path: &'static str,
) -> Route {
    Route {
        callers,
        target,
        methods: &["GET"],
        path,
        upgrade: Some("websocket"),
    }
}

const GET: &[&str] = &["GET"];
const READ: &[&str] = &["GET", "HEAD"];
const POST: &[&str] = &["POST"];
const ITEM: &[&str] = &["GET", "PUT", "DELETE"];
const LIST: &[&str] = &["GET", "POST"];
const BYTES: &[&str] = &["-"];

/// What is asked of every service that speaks HTTP.
pub(crate) const EVERYWHERE: [Route; 3] = [
    route(&["ops/kubelet"], "", GET, "/healthz"),
    route(&["ops/kubelet"], "", GET, "/readyz"),
    route(&["ops/prometheus"], "", GET, "/metrics"),
];

pub(crate) const HTTP_SERVICES: [&str; 16] = [
    "shop/gateway:http",
    "shop/orders:http",
    "shop/users:http",
    "shop/products:http",
    "shop/search:http",
    "shop/payments:http",
    "shop/invoices:http",
    "shop/inventory:http",
    "shop/shipping:http",
    "shop/auth:http",
    "shop/reviews:http",
    "shop/media:http",
    "shop/docs:http",
    "shop/chat:http",
    "shop/reports:http",
    "shop/repos:http",
];

pub(crate) const ROUTES: &[Route] = &[
    // an API with versions, behind which everything else lies
    route(
        &["web", "mobile"],
        "shop/gateway:http",
        LIST,
        "/api/v1/orders",
    ),
    route(
        &["web", "mobile"],
        "shop/gateway:http",
        GET,
        "/api/v1/orders/{number}",
    ),
    route(
        &["mobile"],
        "shop/gateway:http",
        GET,
        "/api/v2/orders/{uuid}",
    ),
    route(&["web"], "shop/gateway:http", POST, "/graphql"),
    route(&["web"], "shop/gateway:http", GET, "/"),
    route(&["web"], "shop/gateway:http", GET, "/p/{slug}"),
    socket(&["web", "mobile"], "shop/gateway:http", "/live/{uuid}"),
    // REST, nested
    route(&["gateway", "support"], "shop/orders:http", LIST, "/orders"),
    route(&["gateway"], "shop/orders:http", ITEM, "/orders/{number}"),
    route(
        &["gateway"],
        "shop/orders:http",
        LIST,
        "/orders/{number}/items",
    ),
    route(
        &["gateway"],
        "shop/orders:http",
        ITEM,
        "/orders/{number}/items/{number}",
    ),
    route(&["batch"], "shop/orders:http", GET, "/orders/by-day/{date}"),
    route(
        &["batch"],
        "shop/orders:http",
        GET,
        "/orders/{number}/history/{stamp}",
    ),
    route(
        &["support"],
        "shop/orders:http",
        POST,
        "/orders/{number}/refund",
    ),
    // names of people, and words beside them
    route(&["gateway"], "shop/users:http", GET, "/users/{name}"),
    route(
        &["gateway"],
        "shop/users:http",
        GET,
        "/users/{name}/addresses/{number}",
    ),
    route(
        &["gateway"],
        "shop/users:http",
        GET,
        "/users/{name}/wishlist",
    ),
    route(
        &["gateway"],
        "shop/users:http",
        &["PUT"],
        "/users/me/password",
    ),
    route(&["support"], "shop/users:http", GET, "/users/{email}"),
    route(&["batch"], "shop/users:http", GET, "/export/{date}/{file}"),
    // slugs in slugs
    route(&["gateway"], "shop/products:http", READ, "/products/{slug}"),
    route(
        &["gateway"],
        "shop/products:http",
        GET,
        "/categories/{word}/{slug}",
    ),
    route(
        &["gateway"],
        "shop/products:http",
        GET,
        "/products/{slug}/variants/{hash}",
    ),
    route(
        &["indexer"],
        "shop/products:http",
        GET,
        "/feed/{year}/{month}/{day}",
    ),
    route(&["gateway"], "shop/search:http", GET, "/search?q={word}"),
    route(&["gateway"], "shop/search:http", GET, "/suggest/{text}"),
    route(
        &["indexer"],
        "shop/search:http",
        &["PUT", "DELETE"],
        "/index/{word}/{uuid}",
    ),
    route(
        &["indexer"],
        "shop/search:http",
        POST,
        "/index/{word}/_bulk",
    ),
    route(&["orders"], "shop/payments:http", POST, "/v1/charges"),
    route(&["orders"], "shop/payments:http", GET, "/v1/charges/{key}"),
    route(
        &["orders"],
        "shop/payments:http",
        POST,
        "/v1/charges/{key}/capture",
    ),
    route(&["invoices"], "shop/payments:http", GET, "/v2/balance"),
    route(&["orders"], "shop/invoices:http", POST, "/invoices"),
    route(
        &["support"],
        "shop/invoices:http",
        GET,
        "/invoices/{invoice}/pdf",
    ),
    route(
        &["batch"],
        "shop/invoices:http",
        GET,
        "/invoices/{date}/{number}.csv",
    ),
    route(
        &["orders", "products"],
        "shop/inventory:http",
        GET,
        "/stock/{sku}",
    ),
    route(
        &["orders"],
        "shop/inventory:http",
        POST,
        "/stock/{sku}/reserve",
    ),
    route(
        &["warehouse"],
        "shop/inventory:http",
        &["PATCH"],
        "/bins/{number}/{sku}",
    ),
    route(&["orders"], "shop/shipping:http", LIST, "/parcels"),
    route(
        &["orders", "web"],
        "shop/shipping:http",
        GET,
        "/parcels/{uuid}/track",
    ),
    route(
        &["warehouse"],
        "shop/shipping:http",
        POST,
        "/labels/{country}/{number}",
    ),
    route(&["gateway"], "shop/auth:http", POST, "/oauth2/token"),
    route(
        &["gateway"],
        "shop/auth:http",
        GET,
        "/.well-known/jwks.json",
    ),
    route(
        &["gateway"],
        "shop/auth:http",
        &["DELETE"],
        "/sessions/{token}",
    ),
    route(
        &["gateway"],
        "shop/reviews:http",
        LIST,
        "/products/{number}/reviews",
    ),
    route(
        &["gateway"],
        "shop/reviews:http",
        &["GET", "PATCH"],
        "/reviews/{uuid}",
    ),
    // files
    route(
        &["web", "mobile"],
        "shop/media:http",
        READ,
        "/static/js/{asset}.js",
    ),
    route(&["web"], "shop/media:http", GET, "/static/css/{word}.css"),
    route(
        &["web", "mobile"],
        "shop/media:http",
        GET,
        "/images/{number}.jpg",
    ),
    route(
        &["web"],
        "shop/media:http",
        GET,
        "/images/{number}/{width}x{width}/{slug}.webp",
    ),
    route(&["web"], "shop/media:http", GET, "/favicon.ico"),
    route(
        &["support"],
        "shop/media:http",
        &["PUT"],
        "/uploads/{uuid}/{file}",
    ),
    route(&["web"], "shop/docs:http", READ, "/docs/{word}/{slug}"),
    route(&["web"], "shop/docs:http", GET, "/docs/{word}/"),
    route(
        &["web"],
        "shop/docs:http",
        GET,
        "/blog/{year}/{month}/{slug}",
    ),
    route(
        &["web"],
        "shop/docs:http",
        GET,
        "/docs/{word}/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/{number}",
    ),
    socket(&["web", "mobile"], "shop/chat:http", "/ws/rooms/{slug}"),
    route(&["web"], "shop/chat:http", LIST, "/rooms/{slug}/messages"),
    route(&["support"], "shop/reports:http", GET, "/reports/{report}"),
    route(
        &["support"],
        "shop/reports:http",
        GET,
        "/reports/{report}/{date}",
    ),
    route(
        &["batch"],
        "shop/reports:http",
        &["PUT"],
        "/reports/{report}/{date}/{hash}",
    ),
    route(
        &["ci/runner"],
        "shop/repos:http",
        GET,
        "/orgs/{word}/repos/{slug}/commits/{hash}",
    ),
    route(
        &["ci/runner"],
        "shop/repos:http",
        GET,
        "/orgs/{word}/repos/{slug}/tree/{hash}/{file}",
    ),
    route(
        &["ci/runner"],
        "shop/repos:http",
        POST,
        "/orgs/{word}/hooks/{number}",
    ),
    // gRPC: one caller that uses few methods, one that uses nearly all
    route(
        &["orders", "invoices"],
        "shop/ledger:grpc",
        POST,
        "/shop.ledger.v1.Ledger/{few}",
    ),
    route(
        &["batch"],
        "shop/ledger:grpc",
        POST,
        "/shop.ledger.v1.Ledger/{method}",
    ),
    route(
        &["batch"],
        "shop/ledger:grpc",
        POST,
        "/shop.ledger.v1.Audit/{few}",
    ),
    // no HTTP
    route(&["orders", "users", "invoices"], "shop/db:sql", BYTES, ""),
    route(&["db-replica"], "shop/db:replication", BYTES, ""),
    route(&["web", "gateway", "chat"], "shop/cache:redis", BYTES, ""),
    route(&["orders", "indexer"], "shop/queue:kafka", BYTES, ""),
    route(&["warehouse"], "shop/queue:kafka", BYTES, ""),
    route(&["payments"], "shop/queue:admin", &["CONNECT"], ""),
];
