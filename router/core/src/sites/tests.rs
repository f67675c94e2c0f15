//! Gateways, summaries, leases and searches, one by one.
