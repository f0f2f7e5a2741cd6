//! Every document of the import corpus is converted and judged: never more than its source allows, and where less, a note says why.

#[path = "import/corpus.rs"]
mod corpus;
#[path = "import/fields.rs"]
mod fields;
#[path = "import/istio_random.rs"]
mod istio_random;
#[path = "import/refused.rs"]
mod refused;
