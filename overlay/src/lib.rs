//! Speaks with other hosts: admission, gossip and Kademlia over libp2p. Comes with many hosts.
