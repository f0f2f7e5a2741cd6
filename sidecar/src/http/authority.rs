//! What names a host.

/// `uri-host [":" port]` (RFC 9110 §7.2), and nothing that another reader could take for another host: no user, no junk after the host.
pub fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((address, port))) => (
            address.parse::<std::net::Ipv6Addr>().is_ok(),
            port.strip_prefix(':').map_or(port.is_empty(), is_port),
        ),
        Some(None) => return false,
        None => {
            let (name, port) = text.split_once(':').unwrap_or((text, "0"));
            let is_name = !name.is_empty() && name.bytes().all(is_name_byte);
            (is_name, is_port(port))
        }
    };
    host && port
}

fn is_port(text: &str) -> bool {
    (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// RFC 3986 §3.2.2, `reg-name`.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=,".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_03_what_another_reader_could_take_for_another_host_is_none() {
        for well in [
            "a",
            "a.b:80",
            "[::1]",
            "[::1]:80",
            "a_b",
            "127.0.0.1:65535",
            "A%2d",
        ] {
            assert!(is_authority(well), "{well}");
        }
        for bad in [
            "", ":80", "a:", "a:b", "a:123456", "a b", "u@a", "a/b", "a?b", "a#b", "a\\b", "[::1",
            "[::1]a", "[a]", "[::1]:", "a:80:80", "a\t",
        ] {
            assert!(!is_authority(bad), "{bad:?}");
        }
    }
}
