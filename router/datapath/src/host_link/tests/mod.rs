//! The link in memory: hosts and a network of our own making, all behaviours by name.

mod documented;
mod handshakes;
mod hostile;
mod keeper_echoes;
mod moving;
mod net;
mod random_walk;
mod rogue;
mod sessions;
mod strangers;
