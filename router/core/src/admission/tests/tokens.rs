//! Tokens: read back however they were copied, and refused in words.

use super::*;
use crate::wire::margay::admission as wire;
use proptest::prelude::*;
use prost::Message;

fn token() -> Token {
    World::new().invite(3, HOUR, 9)
}

#[test]
fn token_is_one_word_that_reads_back() {
    let token = token();
    let text = token.to_string();
    assert!(text.starts_with("margay1"), "{text}");
    assert!(
        text.bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()),
        "{text}"
    );
    assert_eq!(text.parse(), Ok(token));
}

#[test]
fn capitals_line_breaks_and_spaces_do_no_harm() {
    let token = token();
    let text = token.to_string();
    let wrapped: Vec<&str> = text
        .as_bytes()
        .chunks(40)
        .map(|it| str::from_utf8(it).unwrap())
        .collect();
    for copied in [
        format!("  {text}\n"),
        wrapped.join("\r\n  "),
        text.to_ascii_uppercase(),
    ] {
        assert_eq!(copied.parse().as_ref(), Ok(&token), "{copied}");
    }
}

#[test]
fn every_damaged_character_is_noticed() {
    let text = token().to_string();
    for at in "margay1".len()..text.len() {
        let mut damaged = text.clone().into_bytes();
        damaged[at] = if damaged[at] == b'a' { b'b' } else { b'a' };
        let damaged = String::from_utf8(damaged).unwrap();
        assert_eq!(
            damaged.parse::<Token>(),
            Err(TokenError::Damaged),
            "character {at}"
        );
        assert_eq!(
            text[..at].parse::<Token>(),
            Err(TokenError::Damaged),
            "cut at {at}"
        );
    }
}

#[test]
fn other_texts_are_refused_with_what_to_do() {
    let error = |text: &str| text.parse::<Token>().unwrap_err();
    for text in [
        "",
        "hello",
        "margay",
        "margaya",
        "paris",
        &"a".repeat(9_999),
    ] {
        assert_eq!(error(text), TokenError::NoToken, "{text}");
    }
    assert!(
        error("margay2abcd")
            .to_string()
            .contains("upgrade this host")
    );
    assert!(
        error("margay1abcd")
            .to_string()
            .contains("copy all of it again")
    );
}

#[test]
fn secrets_do_not_show_themselves() {
    let token = token();
    let shown = format!("{token:?}");
    let secret = format!("{:?}", token.secret.as_bytes());
    assert!(!shown.contains(&secret), "{shown}");
}

#[test]
fn largest_token_is_well_below_what_is_read() {
    let mut token = token();
    token.addresses = (1..20)
        .map(|port| (std::net::Ipv6Addr::LOCALHOST, port).into())
        .collect();
    let text = token.to_string();
    assert!(text.len() <= 480, "{}", text.len());
    let read: Token = text.parse().unwrap();
    assert_eq!(read.addresses[..], token.addresses[..TOKEN_ADDRESSES_MAX]);
}

#[test]
fn token_ids_read_back() {
    let id = token().id;
    assert_eq!(id.to_string().parse(), Ok(id));
    let error = "xyz".parse::<TokenId>().unwrap_err().to_string();
    assert!(error.contains("16 hexadecimal digits"), "{error}");
}

fn any_address() -> impl Strategy<Value = std::net::SocketAddr> {
    let ip = prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(std::net::IpAddr::from),
        any::<std::net::Ipv6Addr>().prop_map(std::net::IpAddr::from),
    ];
    let usable = |ip: &std::net::IpAddr| !ip.is_unspecified() && !ip.is_multicast();
    (ip.prop_filter("usable", usable), 1u16..).prop_map(Into::into)
}

proptest! {
    #[test]
    fn every_token_reads_back(
        keys: [[u8; 32]; 3], seed: [u8; 32],
        addresses in proptest::collection::vec(any_address(), 0..=TOKEN_ADDRESSES_MAX),
    ) {
        let (id, secret) = crate::admission::token::draw(&seed);
        let token = Token {
            network: NetworkId::from_root(HostId::from_bytes(keys[0])),
            issuer: HostId::from_bytes(keys[1]),
            link_key: LinkKey(keys[2]),
            addresses,
            id,
            secret,
        };
        prop_assert_eq!(token.to_string().parse(), Ok(token));
    }

    #[test]
    fn whole_tokens_without_meaning_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let text = crate::admission::token::text_of(bytes.clone());
        let meaningful = wire::Token::decode(bytes.as_slice()).is_ok_and(|it| it.secret.len() == 16);
        if !meaningful {
            prop_assert_eq!(text.parse::<Token>(), Err(TokenError::Unreadable));
        }
    }
}
