//! Documents as users write them.

use weft_identity::document::{Origin, read, read_envelope};
use weft_policy::{POLICY_TEST, PolicyTestSpec};

/// What is read can be written, and is read again as the same resource; what is not read has an error of one origin.
pub(super) fn document(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let origin = Origin {
        file: "seed.yaml".to_owned(),
        first_line: 1,
    };
    let envelope = read_envelope(text, &origin);
    // A table of verdicts is no resource; it has the same reader.
    let _ = read::<PolicyTestSpec>(text, &origin, POLICY_TEST);
    match weft_wire::text::read(text, &origin) {
        Err(error) => assert!(error.to_string().starts_with("seed.yaml:"), "{error}"),
        Ok(resource) => {
            assert!(envelope.is_ok(), "a document without an envelope was read");
            let Ok(written) = weft_wire::text::write(&resource) else {
                return;
            };
            let again = weft_wire::text::read(&written, &origin)
                .unwrap_or_else(|error| panic!("{error} in what was written:\n{written}"));
            assert_eq!(again, resource, "{written}");
            let message = weft_wire::v1::Resource::from(&resource);
            let received = weft_wire::Resource::try_from(&message);
            assert_eq!(received.as_ref().ok(), Some(&resource), "{received:?}");
        }
    }
}
