//! Another world for the same Router: deterministic runs of many hosts. Comes after the overlay.
