//! Membership in a small site that loses, pauses, restarts and lies.
