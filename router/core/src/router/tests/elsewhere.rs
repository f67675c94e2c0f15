//! What `margay explain` says of other hosts: who is there, how that is known, what is sought.

use super::beyond_the_site::Far;
use super::explaining::explain;
use super::hosts::host;
use super::world::World;
use crate::peer::{Known, PeerInput};
use crate::port::Input;
use std::time::Duration;

/// The steps of one name, as they are told.
fn told(world: &World, target: &str, step: &str) -> Vec<String> {
    let explanation = explain(world, "1.shopper", target);
    let steps = explanation.steps.into_iter().filter(|it| it.name == step);
    steps.map(|it| it.detail).collect()
}

#[test]
fn each_instance_elsewhere_is_told_with_how_it_is_known_and_by_which_way() {
    let mut far = Far::with_the_shop();
    far.tell('a', 'b', |name| match name {
        "1.web" => Some(('g', Known::LookedUp)),
        _ => Some(('i', Known::Summarised)),
    });
    far.tell('a', 'c', |_| None);
    let short = |name| host(name).short().to_string();
    let (b, c, g, i) = (short('b'), short('c'), short('g'), short('i'));
    assert_eq!(
        told(far.at('a'), "web.matrix", "elsewhere"),
        [
            format!(
                "3.web on host {c}, site distance 0; flooded in the site's catalog; no router that \
                 leads there is up"
            ),
            format!(
                "1.web on host {b}, site distance 1; looked up: Kademlia led there, via {g}; takes \
                 flows, first packets by way of {g}"
            ),
            format!(
                "2.web on host {b}, site distance 1; summarised: a gateway's summary led there, via \
                 {i}; takes flows, first packets by way of {i}"
            ),
        ]
    );
    let identity = told(far.at('a'), "1.web.matrix", "identity");
    assert!(identity[0].ends_with(&format!("is 1.web of shop@1, on host {b}")));
}

#[test]
fn search_is_told_before_while_and_after_it_is_made() {
    let mut far = Far::with_the_shop();
    let a = far.at('a');
    let told = |a: &World| told(a, "web.matrix", "search").concat();
    assert_eq!(told(a), "it is sought beyond the site once it is asked for");
    let service: crate::name::AutomatonName = "web".parse().unwrap();
    a.tell(Input::Wanted {
        service: service.clone(),
    });
    assert_eq!(told(a), "it is sought beyond the site now");
    a.tell(Input::Peer(PeerInput::Sought { service }));
    a.pass(Duration::from_millis(400));
    assert_eq!(
        told(a),
        "it is not sought again so soon; the last search, 0.4 s ago, found no instance that takes flows"
    );
    a.pass(Duration::from_millis(1_600));
    assert_eq!(
        told(a),
        "it is sought beyond the site once it is asked for; the last search, 2.0 s ago, found no \
         instance that takes flows"
    );
}

#[test]
fn host_alone_says_nothing_of_searches() {
    let alone = World::with(super::SHOP);
    assert!(told(&alone, "9.web.matrix", "search").is_empty());
    assert!(told(&alone, "web.matrix", "elsewhere").is_empty());
}
