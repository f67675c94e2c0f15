//! One direction of a cable, as a plain value: what is sent when, given the time and a seed.

use super::{Counters, Impairment};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// The most frames under way: with full ones 6 MB, and 100 ms of 60 MB/s.
const FRAMES_MAX: usize = 4096;

/// How much longer than others a frame that shall be overtaken is held back.
const HOLD_MAX: Duration = Duration::from_millis(5);

/// Frames under way in one direction.
pub struct Line {
    impairment: Impairment,
    random: SmallRng,
    under_way: BinaryHeap<Reverse<UnderWay>>,
    /// How many frames came so far: it orders those that are due at once.
    sequence: u64,
    /// Nothing that keeps its place is due before it.
    not_before: Option<Instant>,
    counters: Counters,
}

/// A frame and when it comes out; the order is that of sending.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct UnderWay {
    due: Instant,
    sequence: u64,
    frame: Vec<u8>,
}

impl Line {
    /// An empty one; `seed` decides what is lost, doubled and reordered.
    pub fn new(impairment: Impairment, seed: u64) -> Line {
        Line {
            impairment,
            random: SmallRng::seed_from_u64(seed),
            under_way: BinaryHeap::new(),
            sequence: 0,
            not_before: None,
            counters: Counters::default(),
        }
    }

    /// Treats frames that come from now on differently.
    pub fn set(&mut self, impairment: Impairment) {
        self.impairment = impairment;
    }

    /// Takes a frame in.
    pub fn handle_frame(&mut self, frame: &[u8], now: Instant) {
        self.counters.taken += 1;
        if self.draws(self.impairment.drop) {
            self.counters.dropped += 1;
            return;
        }
        let copies = if self.draws(self.impairment.duplicate) {
            self.counters.duplicated += 1;
            2
        } else {
            1
        };
        for _ in 0..copies {
            self.send(frame, now);
        }
    }

    fn send(&mut self, frame: &[u8], now: Instant) {
        if self.under_way.len() >= FRAMES_MAX {
            self.counters.overflowed += 1;
            return;
        }
        let mut due = now + self.impairment.latency;
        if self.draws(self.impairment.reorder) {
            self.counters.reordered += 1;
            due += self.random.random_range(HOLD_MAX / 5..=HOLD_MAX);
        } else {
            // A latency that falls must not reorder what is under way.
            due = due.max(self.not_before.unwrap_or(due));
            self.not_before = Some(due);
        }
        self.sequence += 1;
        self.under_way.push(Reverse(UnderWay {
            due,
            sequence: self.sequence,
            frame: frame.to_vec(),
        }));
    }

    /// The next frame that is due.
    pub fn poll_frame(&mut self, now: Instant) -> Option<Vec<u8>> {
        let Reverse(first) = self.under_way.peek()?;
        if first.due > now {
            return None;
        }
        self.counters.carried += 1;
        self.under_way.pop().map(|Reverse(first)| first.frame)
    }

    /// When the next frame is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse(first)| first.due)
    }

    /// Notes that a frame which came out found no room.
    pub fn refused(&mut self) {
        self.counters.carried -= 1;
        self.counters.overflowed += 1;
    }

    /// What became of the frames so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn draws(&mut self, part: f64) -> bool {
        part > 0.0 && self.random.random_bool(part.min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 7;

    fn impairment() -> Impairment {
        Impairment::default()
    }

    /// Sends `count` numbered frames, one each `pause`, and returns what comes out in order.
    fn carried(line: &mut Line, count: u32, pause: Duration) -> Vec<u32> {
        let start = Instant::now();
        for number in 0..count {
            line.handle_frame(&number.to_be_bytes(), start + pause * number);
        }
        let end = start + Duration::from_secs(3600);
        let frames = std::iter::from_fn(|| line.poll_frame(end));
        frames
            .map(|it| u32::from_be_bytes(it.try_into().unwrap()))
            .collect()
    }

    #[test]
    fn plain_line_carries_all_in_order() {
        let mut line = Line::new(impairment(), SEED);
        let numbers: Vec<u32> = (0..1000).collect();
        assert_eq!(carried(&mut line, 1000, Duration::ZERO), numbers);
        assert_eq!(line.counters().carried, 1000);
        assert_eq!(line.poll_timeout(), None);
    }

    #[test]
    fn frame_comes_out_after_the_latency_and_not_before() {
        let latency = Duration::from_millis(20);
        let mut line = Line::new(
            Impairment {
                latency,
                ..impairment()
            },
            SEED,
        );
        let now = Instant::now();
        line.handle_frame(b"frame", now);
        assert_eq!(line.poll_timeout(), Some(now + latency));
        let before = now + latency - Duration::from_nanos(1);
        assert_eq!(line.poll_frame(before), None);
        assert_eq!(line.poll_frame(now + latency), Some(b"frame".to_vec()));
    }

    #[test]
    fn falling_latency_keeps_the_order() {
        let latency = Duration::from_millis(20);
        let mut line = Line::new(
            Impairment {
                latency,
                ..impairment()
            },
            SEED,
        );
        let now = Instant::now();
        line.handle_frame(b"first", now);
        line.set(impairment());
        line.handle_frame(b"second", now);
        assert_eq!(line.poll_frame(now), None);
        assert_eq!(line.poll_frame(now + latency), Some(b"first".to_vec()));
        assert_eq!(line.poll_frame(now + latency), Some(b"second".to_vec()));
    }

    #[test]
    fn parts_are_lost_and_doubled_as_asked() {
        let mut line = Line::new(
            Impairment {
                drop: 0.3,
                duplicate: 0.2,
                ..impairment()
            },
            SEED,
        );
        let out = carried(&mut line, 3000, Duration::ZERO).len() as u64;
        let counters = line.counters();
        assert!((840..960).contains(&counters.dropped), "{counters:?}");
        assert!((360..480).contains(&counters.duplicated), "{counters:?}");
        assert_eq!(out, 3000 - counters.dropped + counters.duplicated);
    }

    #[test]
    fn reordered_frames_are_overtaken_and_none_is_lost() {
        let mut line = Line::new(
            Impairment {
                reorder: 0.1,
                ..impairment()
            },
            SEED,
        );
        let mut out = carried(&mut line, 1000, Duration::from_micros(100));
        let late = out.windows(2).filter(|pair| pair[0] > pair[1]).count();
        assert!((60..140).contains(&late), "{late} of 1000 are late");
        out.sort_unstable();
        assert_eq!(out, (0..1000).collect::<Vec<u32>>());
    }

    #[test]
    fn one_seed_makes_one_fate() {
        let fate = |seed| {
            let mut line = Line::new(
                Impairment {
                    drop: 0.5,
                    ..impairment()
                },
                seed,
            );
            carried(&mut line, 200, Duration::ZERO)
        };
        assert_eq!(fate(SEED), fate(SEED));
        assert_ne!(fate(SEED), fate(SEED + 1));
    }

    #[test]
    fn line_holds_a_bounded_number_of_frames() {
        let mut line = Line::new(impairment(), SEED);
        let count = u32::try_from(FRAMES_MAX).unwrap() + 10;
        assert_eq!(carried(&mut line, count, Duration::ZERO).len(), FRAMES_MAX);
        assert_eq!(line.counters().overflowed, 10);
    }
}
