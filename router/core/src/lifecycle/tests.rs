//! An instance's life: each way through the stages, and random walks that never get stuck.

use super::*;
use proptest::prelude::*;

const GRACE: Duration = Duration::from_secs(3);

/// Told to end, with three seconds for its flows.
const END: LifecycleInput = LifecycleInput::Remove {
    drain: Duration::from_secs(3),
};

/// Told to end at once.
const END_AT_ONCE: LifecycleInput = LifecycleInput::Remove {
    drain: Duration::ZERO,
};

fn at(millis: u64) -> Moment {
    Moment::from_nanos(millis * 1_000_000)
}

fn life(beginning: Beginning, probed: bool) -> Lifecycle {
    let config = LifecycleConfig {
        beginning,
        probed,
        grace: GRACE,
    };
    Lifecycle::new(config, 1, at(0))
}

fn drain(life: &mut Lifecycle) -> Vec<LifecycleOutput> {
    std::iter::from_fn(|| life.poll_output()).collect()
}

fn tell(life: &mut Lifecycle, input: LifecycleInput, millis: u64) -> Vec<LifecycleOutput> {
    life.handle_input(input, at(millis));
    drain(life)
}

/// A life that was led to ready.
fn ready(probed: bool) -> Lifecycle {
    let mut life = life(Beginning::Planned, probed);
    tell(&mut life, LifecycleInput::Prepared, 0);
    tell(&mut life, LifecycleInput::Started, 0);
    tell(&mut life, LifecycleInput::Probed { ready: true }, 0);
    assert_eq!(life.stage(), Stage::Ready);
    life
}

#[test]
fn probed_instance_is_ready_when_its_probe_says_so() {
    let mut life = life(Beginning::Planned, true);
    assert_eq!(drain(&mut life), [LifecycleOutput::Prepare]);
    assert_eq!(
        tell(&mut life, LifecycleInput::Prepared, 1),
        [LifecycleOutput::Start]
    );
    assert_eq!(
        tell(&mut life, LifecycleInput::Started, 2),
        [LifecycleOutput::Probe(true)]
    );
    assert_eq!(life.stage(), Stage::Running);
    let probed = |ready| LifecycleInput::Probed { ready };
    assert_eq!(
        tell(&mut life, probed(true), 3),
        [LifecycleOutput::Ready(true)]
    );
    assert_eq!(
        tell(&mut life, probed(false), 4),
        [LifecycleOutput::Ready(false)]
    );
    assert_eq!(life.stage(), Stage::Running);
    assert_eq!(
        tell(&mut life, probed(true), 5),
        [LifecycleOutput::Ready(true)]
    );
}

#[test]
fn instance_without_probe_is_ready_as_soon_as_it_runs() {
    let mut life = life(Beginning::Planned, false);
    tell(&mut life, LifecycleInput::Prepared, 1);
    assert_eq!(
        tell(&mut life, LifecycleInput::Started, 2),
        [LifecycleOutput::Ready(true)]
    );
}

#[test]
fn exit_ends_readiness_and_the_probe_until_the_keeper_started_it_again() {
    let mut life = ready(true);
    let exited = LifecycleInput::Exited { restarted: true };
    assert_eq!(
        tell(&mut life, exited, 10),
        [LifecycleOutput::Probe(false), LifecycleOutput::Ready(false)]
    );
    let late = LifecycleInput::Probed { ready: true };
    assert_eq!(tell(&mut life, late, 11), []);
    assert_eq!(
        tell(&mut life, LifecycleInput::Started, 500),
        [LifecycleOutput::Probe(true)]
    );
}

#[test]
fn what_the_keeper_gave_up_is_started_by_core_after_a_pause() {
    let mut life = ready(false);
    let exited = LifecycleInput::Exited { restarted: false };
    assert_eq!(tell(&mut life, exited, 10), [LifecycleOutput::Ready(false)]);
    let due = life.poll_timeout().unwrap();
    assert!(due > at(10) && due <= at(10) + PAUSE_MIN);
    life.handle_timeout(due);
    assert_eq!(drain(&mut life), [LifecycleOutput::Start]);
}

#[test]
fn failures_in_a_row_pause_longer_up_to_a_limit() {
    let mut life = life(Beginning::Planned, false);
    drain(&mut life);
    let mut now = at(0);
    let mut pauses = Vec::new();
    for _ in 0..12 {
        life.handle_input(LifecycleInput::Failed, now);
        let due = life.poll_timeout().unwrap();
        pauses.push(due.since(now));
        now = due;
        life.handle_timeout(now);
        assert_eq!(drain(&mut life), [LifecycleOutput::Prepare]);
        assert_eq!(life.stage(), Stage::Preparing);
    }
    assert!(pauses[0] <= PAUSE_MIN);
    assert!(pauses[4] >= PAUSE_MIN * 8);
    assert!(pauses.iter().all(|pause| *pause <= PAUSE_MAX));
    assert!(pauses[11] >= PAUSE_MAX / 2);
}

#[test]
fn missing_program_is_tried_again_without_a_new_network() {
    let mut life = life(Beginning::Planned, false);
    tell(&mut life, LifecycleInput::Prepared, 1);
    tell(&mut life, LifecycleInput::Failed, 2);
    assert_eq!(life.stage(), Stage::Pausing);
    life.handle_timeout(life.poll_timeout().unwrap());
    assert_eq!(drain(&mut life), [LifecycleOutput::Start]);
}

#[test]
fn recovered_instance_pauses_shortly_again() {
    let mut life = ready(false);
    for _ in 0..6 {
        tell(&mut life, LifecycleInput::Failed, 0);
        tell(&mut life, LifecycleInput::Started, 0);
    }
    let long = u64::try_from(RECOVERED_AFTER.as_millis()).unwrap();
    tell(&mut life, LifecycleInput::Failed, long);
    assert!(life.poll_timeout().unwrap() <= at(long) + PAUSE_MIN);
}

#[test]
fn removal_ends_it_from_every_stage() {
    let exited = LifecycleInput::Exited { restarted: true };
    let ways: [&[LifecycleInput]; 6] = [
        &[],
        &[LifecycleInput::Prepared],
        &[LifecycleInput::Prepared, LifecycleInput::Started],
        &[LifecycleInput::Prepared, LifecycleInput::Started, exited],
        &[LifecycleInput::Failed],
        &[LifecycleInput::NetworkLost],
    ];
    for way in ways {
        let mut life = life(Beginning::Planned, true);
        for input in way {
            tell(&mut life, input.clone(), 1);
        }
        let outputs = tell(&mut life, END_AT_ONCE, 2);
        assert_eq!(outputs.last(), Some(&LifecycleOutput::Withdraw));
        let outputs = tell(&mut life, LifecycleInput::Withdrawn, 2);
        assert_eq!(outputs, [LifecycleOutput::Remove { grace: GRACE }]);
        assert_eq!(tell(&mut life, LifecycleInput::Started, 3), []);
        assert_eq!(
            tell(&mut life, LifecycleInput::Removed, 4),
            [LifecycleOutput::Gone]
        );
        assert_eq!(life.poll_timeout(), None);
    }
}

#[test]
fn what_was_not_begun_is_never_prepared() {
    let mut life = life(Beginning::Planned, true);
    assert_eq!(tell(&mut life, END, 0), [LifecycleOutput::Withdraw]);
}

#[test]
fn removal_is_asked_for_once_whatever_fails_meanwhile() {
    for end in [END, LifecycleInput::NetworkLost] {
        let mut life = ready(false);
        tell(&mut life, end, 1);
        assert_eq!(tell(&mut life, LifecycleInput::Failed, 2), []);
        assert_eq!(life.poll_timeout(), None);
    }
}

#[test]
fn lost_network_is_taken_away_and_made_anew() {
    let mut life = ready(true);
    let outputs = tell(&mut life, LifecycleInput::NetworkLost, 1);
    let at_once = LifecycleOutput::Remove {
        grace: Duration::ZERO,
    };
    assert_eq!(
        outputs,
        [
            LifecycleOutput::Probe(false),
            LifecycleOutput::Ready(false),
            at_once
        ]
    );
    assert_eq!(
        tell(&mut life, LifecycleInput::Removed, 2),
        [LifecycleOutput::Prepare]
    );
}

#[test]
fn what_outlived_the_daemon_goes_on() {
    let mut running = life(Beginning::Running, true);
    assert_eq!(
        drain(&mut running),
        [LifecycleOutput::Ready(true), LifecycleOutput::Probe(true)]
    );
    let mut exited = life(Beginning::Exited, false);
    assert_eq!(drain(&mut exited), []);
    assert_eq!(
        tell(&mut exited, LifecycleInput::Started, 1),
        [LifecycleOutput::Ready(true)]
    );
    let mut damaged = life(Beginning::Damaged, false);
    let outputs = drain(&mut damaged);
    assert!(matches!(outputs[..], [LifecycleOutput::Remove { .. }]));
}

#[test]
fn probe_can_change_while_it_runs() {
    let mut life = ready(true);
    let changed = |probed| LifecycleInput::ProbeChanged { probed };
    assert_eq!(
        tell(&mut life, changed(true), 1),
        [LifecycleOutput::Probe(true)]
    );
    tell(&mut life, LifecycleInput::Probed { ready: false }, 2);
    assert_eq!(
        tell(&mut life, changed(false), 3),
        [LifecycleOutput::Probe(false), LifecycleOutput::Ready(true)]
    );
}

/// ```text
///   remove -> no new flows -> every table knows -> flows end, or their time is over -> SIGTERM
/// ```
#[test]
fn nothing_is_told_to_stop_before_it_is_withdrawn_and_drained() {
    let mut life = ready(false);
    let outputs = tell(&mut life, END, 10);
    let withdrawn = [LifecycleOutput::Ready(false), LifecycleOutput::Withdraw];
    assert_eq!(outputs, withdrawn);
    assert!(life.serves() && life.poll_timeout().is_none());

    let outputs = tell(&mut life, LifecycleInput::Withdrawn, 20);
    assert_eq!(outputs, [LifecycleOutput::CountFlows]);
    assert!(life.serves());
    life.handle_timeout(at(20) + DRAIN_LOOK);
    assert_eq!(drain(&mut life), [LifecycleOutput::CountFlows]);

    let outputs = tell(&mut life, LifecycleInput::Drained, 700);
    assert_eq!(outputs, [LifecycleOutput::Remove { grace: GRACE }]);
    assert!(!life.serves() && life.poll_timeout().is_none());
}

#[test]
fn flows_that_do_not_end_hold_it_up_for_a_bounded_time() {
    let mut life = ready(false);
    tell(&mut life, END, 10);
    tell(&mut life, LifecycleInput::Withdrawn, 20);
    life.handle_timeout(at(3_019));
    assert_eq!(drain(&mut life), [LifecycleOutput::CountFlows]);
    life.handle_timeout(at(3_020));
    let removed = [LifecycleOutput::Remove { grace: GRACE }];
    assert_eq!(drain(&mut life), removed);
}

#[test]
fn hurry_cuts_a_drain_short() {
    let mut draining = ready(false);
    tell(&mut draining, END, 10);
    tell(&mut draining, LifecycleInput::Withdrawn, 20);
    let removed = [LifecycleOutput::Remove { grace: GRACE }];
    assert_eq!(tell(&mut draining, END_AT_ONCE, 30), removed);
    assert_eq!(tell(&mut draining, END_AT_ONCE, 40), [], "asked for once");

    let mut withdrawing = ready(false);
    tell(&mut withdrawing, END, 10);
    assert_eq!(tell(&mut withdrawing, END_AT_ONCE, 11), []);
    let outputs = tell(&mut withdrawing, LifecycleInput::Withdrawn, 20);
    assert_eq!(outputs, removed);
}

#[test]
fn program_that_ends_while_it_drains_is_waited_for_no_longer() {
    for end in [
        LifecycleInput::Exited { restarted: true },
        LifecycleInput::NetworkLost,
    ] {
        let mut life = ready(false);
        tell(&mut life, END, 10);
        tell(&mut life, LifecycleInput::Withdrawn, 20);
        let outputs = tell(&mut life, end, 30);
        assert_eq!(outputs, [LifecycleOutput::Remove { grace: GRACE }]);
    }
}

#[test]
fn suspended_instance_runs_and_takes_no_new_flow_until_it_is_let_back_in() {
    let suspend = LifecycleInput::Suspend;
    let mut life = ready(true);
    let outputs = tell(&mut life, suspend(true), 1);
    assert_eq!(outputs, [LifecycleOutput::Ready(false)]);
    assert!(life.serves() && !life.is_ready());
    tell(&mut life, LifecycleInput::Probed { ready: false }, 2);
    assert_eq!(tell(&mut life, suspend(false), 3), []);
    let outputs = tell(&mut life, LifecycleInput::Probed { ready: true }, 4);
    assert_eq!(outputs, [LifecycleOutput::Ready(true)]);
}

fn any_input() -> impl Strategy<Value = LifecycleInput> {
    prop_oneof![
        Just(LifecycleInput::Prepared),
        Just(LifecycleInput::Started),
        any::<bool>().prop_map(|restarted| LifecycleInput::Exited { restarted }),
        Just(LifecycleInput::Failed),
        any::<bool>().prop_map(|ready| LifecycleInput::Probed { ready }),
        Just(LifecycleInput::NetworkLost),
        Just(END),
        Just(END_AT_ONCE),
        Just(LifecycleInput::Withdrawn),
        Just(LifecycleInput::Drained),
        any::<bool>().prop_map(LifecycleInput::Suspend),
        Just(LifecycleInput::Removed),
        any::<bool>().prop_map(|probed| LifecycleInput::ProbeChanged { probed }),
    ]
}

/// Gives the instance whatever it waits for, and lets time pass, until it is ready or gone.
fn live_on(life: &mut Lifecycle, mut now: Moment) {
    for _ in 0..10 {
        if let Some(due) = life.poll_timeout() {
            now = now.max(due);
            life.handle_timeout(now);
        }
        let input = match life.stage() {
            Stage::Preparing => LifecycleInput::Prepared,
            Stage::Starting | Stage::Exited => LifecycleInput::Started,
            Stage::Running => LifecycleInput::Probed { ready: true },
            Stage::Repairing | Stage::Removing => LifecycleInput::Removed,
            Stage::Withdrawing => LifecycleInput::Withdrawn,
            Stage::Draining => LifecycleInput::Drained,
            Stage::Pausing | Stage::Ready | Stage::Gone => continue,
        };
        life.handle_input(input, now);
    }
}

proptest! {
    #[test]
    fn no_news_in_any_order_gets_it_stuck(
        steps in proptest::collection::vec((any_input(), 0u64..2_000), 0..60),
        probed in any::<bool>(),
    ) {
        let mut life = life(Beginning::Planned, probed);
        let mut now = at(0);
        let mut announced = false;
        let mut removing = false;
        for (input, pass) in steps {
            now = now + Duration::from_millis(pass);
            let early = life.poll_timeout().is_none_or(|due| now < due);
            let before = format!("{life:?}");
            life.handle_timeout(now);
            let after = format!("{life:?}");
            prop_assert!(!early || after == before, "an early timeout does nothing");
            prop_assert!(life.poll_timeout().is_none_or(|due| due > now));
            removing |= matches!(input, LifecycleInput::Remove { .. });
            life.handle_input(input, now);
            for output in drain(&mut life) {
                if let LifecycleOutput::Ready(ready) = output {
                    prop_assert_ne!(ready, announced, "only changes are announced");
                    announced = ready;
                }
            }
            prop_assert_eq!(announced, life.is_ready());
            prop_assert_eq!(removing, life.is_ending());
        }
        live_on(&mut life, now);
        prop_assert_eq!(life.stage(), if removing { Stage::Gone } else { Stage::Ready });
    }
}
