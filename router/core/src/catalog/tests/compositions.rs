//! Compositions: an operator's word, the newest version, one content each.

use super::*;
use crate::name::HostName;

fn shop(version: u64, replicas: u64) -> (Composition, String) {
    let text = format!(
        "[composition]\nname = \"shop\"\nversion = {version}\n\n[automaton.web]\ncommand = \
         [\"nginx\"]\nreplicas = {replicas}\n"
    );
    (Composition::parse(&text).unwrap(), text)
}

fn here() -> HostName {
    "a".parse().unwrap()
}

fn signed(version: u64, replicas: u64) -> SignedComposition {
    let (composition, text) = shop(version, replicas);
    SignedComposition::new(&key(9), &composition, &text, &here())
}

fn apply(catalog: &mut Catalog, composition: SignedComposition) -> Vec<Vec<u8>> {
    catalog.handle_input(CatalogInput::Apply(Box::new(composition)), at(0));
    let published = outputs(catalog)
        .into_iter()
        .filter_map(|output| match output {
            CatalogOutput::Publish { bytes } => Some(bytes),
            _ => None,
        });
    published.collect()
}

fn version(catalog: &Catalog) -> Option<u64> {
    let name = "shop".parse().unwrap();
    catalog.composition(&name).map(|it| it.version.0)
}

#[test]
fn newest_version_wins_and_is_passed_on_by_any_host() {
    let (mut one, mut two, mut three) = (catalog(0), catalog(1), catalog(2));
    let published = apply(&mut one, signed(2, 1));
    let seen = hear(&mut two, &published, at(0));
    let name = "shop".parse().unwrap();
    assert_eq!(seen, [CatalogOutput::Changed(Change::Composition(name))]);
    apply(&mut one, signed(1, 1));
    assert_eq!(
        (version(&one), drops(&one)),
        (Some(2), vec![CatalogDrop::Known])
    );
    // The host that brought it is gone, and nothing hides it.
    two.handle_input(CatalogInput::Down(id(0)), at(1));
    assert_eq!(version(&two), Some(2));
    repair(&mut three, &mut two, at(10));
    assert_eq!(version(&three), Some(2));
    apply(&mut three, signed(3, 1));
    repair(&mut two, &mut three, at(20));
    assert_eq!(version(&two), Some(3));
    assert_eq!(repair(&mut two, &mut three, at(30)), 1);
}

#[test]
fn second_content_of_a_version_is_refused_and_both_hosts_hear_of_it() {
    let (mut one, mut two) = (catalog(0), catalog(1));
    apply(&mut one, signed(2, 1));
    apply(&mut two, signed(2, 5));
    repair(&mut one, &mut two, at(10));
    repair(&mut two, &mut one, at(20));
    for catalog in [&one, &two] {
        assert_eq!(drops(catalog), [CatalogDrop::TwoContents]);
    }
    apply(&mut one, signed(3, 2));
    repair(&mut two, &mut one, at(30));
    assert_eq!(version(&two), Some(3));
}

#[test]
fn withdrawn_composition_is_gone_and_stays_gone() {
    let (mut one, mut two) = (catalog(0), catalog(1));
    apply(&mut one, signed(2, 1));
    repair(&mut two, &mut one, at(10));
    let withdrawal = SignedComposition::withdrawal(&key(9), &"shop".parse().unwrap(), Version(3));
    apply(&mut one, withdrawal);
    repair(&mut two, &mut one, at(20));
    apply(&mut two, signed(2, 1));
    assert_eq!((version(&one), version(&two)), (None, None));
}

#[test]
fn withdrawal_ends_its_version_and_not_the_next() {
    let mut one = catalog(0);
    apply(&mut one, signed(2, 1));
    let withdrawal = SignedComposition::withdrawal(&key(9), &"shop".parse().unwrap(), Version(2));
    apply(&mut one, withdrawal);
    assert_eq!(version(&one), None);
    apply(&mut one, signed(2, 1));
    assert_eq!(version(&one), None);
    apply(&mut one, signed(3, 1));
    assert_eq!(version(&one), Some(3));
}

#[test]
fn automatons_that_name_no_host_run_where_the_composition_was_applied() {
    let mut one = catalog(0);
    apply(&mut one, signed(1, 1));
    let read = one.composition(&"shop".parse().unwrap()).unwrap();
    let web = read.automatons.values().next().unwrap();
    assert_eq!(web.on, [here()]);
}

#[test]
fn only_operators_make_compositions() {
    let mut one = catalog(0);
    let (composition, text) = shop(1, 1);
    apply(
        &mut one,
        SignedComposition::new(&key(0), &composition, &text, &here()),
    );
    assert_eq!(
        (version(&one), drops(&one)),
        (None, vec![CatalogDrop::NotAnOperator])
    );
    let mut forged = signed(1, 1).to_wire();
    forged.operator = id(9).as_bytes().to_vec();
    let last = forged.signed.len() - 1;
    forged.signed[last] ^= 1;
    apply(&mut one, SignedComposition::from_wire(forged).unwrap());
    assert!(drops(&one).contains(&CatalogDrop::Forged));
}

#[test]
fn composition_that_cannot_be_read_is_carried_while_the_one_before_holds() {
    let (mut one, mut two) = (catalog(0), catalog(1));
    apply(&mut one, signed(1, 1));
    let (mut later, _) = shop(2, 1);
    later.version = Version(2);
    let unknown = "[composition]\nname = \"shop\"\nversion = 2\nfuture = true\n";
    apply(
        &mut one,
        SignedComposition::new(&key(9), &later, unknown, &here()),
    );
    // Nor is one whose text is another's.
    let (_, text) = shop(7, 1);
    later.version = Version(3);
    apply(
        &mut one,
        SignedComposition::new(&key(9), &later, &text, &here()),
    );
    assert_eq!(version(&one), Some(1));
    repair(&mut two, &mut one, at(10));
    let name = "shop".parse().unwrap();
    assert_eq!(one.signed_composition(&name), two.signed_composition(&name));
}

#[test]
fn long_composition_is_not_published_and_found_by_repair() {
    let (composition, text) = shop(1, 1);
    let text = format!("{text}# {}\n", "long ".repeat(30_000));
    assert!(text.len() > GOSSIP_BYTES_MAX);
    let (mut one, mut two) = (catalog(0), catalog(1));
    let long = SignedComposition::new(&key(9), &composition, &text, &here());
    assert_eq!(apply(&mut one, long), Vec::<Vec<u8>>::new());
    repair(&mut two, &mut one, at(10));
    assert_eq!(version(&two), Some(1));
}

#[test]
fn signed_composition_is_kept_as_bytes() {
    let composition = signed(4, 2);
    let read = SignedComposition::from_bytes(&composition.to_bytes());
    assert_eq!(read, Some(composition));
    assert_eq!(SignedComposition::from_bytes(b"\xff"), None);
}
