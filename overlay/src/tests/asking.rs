//! Questions, answers, and what comes instead of an answer.

use super::*;
use margay_core::overlay::OVERLAY_BYTES_MAX;

#[tokio::test]
async fn a_question_is_answered() {
    let (mut a, mut b) = pair().await;

    a.ask(&b, 7, "web.matrix?");
    let (from, asked, text) = b.asked().await;
    assert_eq!((from, text.as_str()), (a.id(), "web.matrix?"));
    b.answer(asked, "here");

    assert_eq!(a.answered(7).await.as_deref(), Some("here"));
}

#[tokio::test]
async fn an_admitted_host_is_called_to_be_asked() {
    let mut hosts = members(2, Pace::default()).await;
    let (mut b, mut a) = (hosts.pop().unwrap(), hosts.pop().unwrap());

    a.ask(&b, 1, "there?");
    let (_, asked, _) = b.asked().await;
    b.answer(asked, "yes");

    assert_eq!(a.answered(1).await.as_deref(), Some("yes"));
}

#[tokio::test]
async fn many_questions_at_once_are_answered_each_by_its_own_answer() {
    let (mut a, mut b) = pair().await;
    for question in 0..50 {
        a.ask(&b, question, &format!("{question}"));
    }
    for _ in 0..50 {
        let (_, asked, text) = b.asked().await;
        b.answer(asked, &format!("answer to {text}"));
    }
    let mut answers = Vec::new();
    for _ in 0..50 {
        answers.push(
            a.wait(|event| match event {
                OverlayEvent::Answered { question, answer } => Some((question.0, answer.unwrap())),
                _ => None,
            })
            .await,
        );
    }
    answers.sort();
    let expected = (0..50).map(|it| (it, format!("answer to {it}").into_bytes()));
    assert_eq!(answers, expected.collect::<Vec<_>>());
}

#[tokio::test]
async fn the_longest_question_and_answer_are_carried_and_longer_ones_are_not() {
    let (mut a, mut b) = pair().await;
    let longest = "m".repeat(OVERLAY_BYTES_MAX);
    let too_long = longest.clone() + "!";

    a.ask(&b, 1, &too_long);
    assert_eq!(a.answered(1).await, None);
    assert_eq!(a.count("too_long"), 1);

    a.ask(&b, 2, &longest);
    let (_, asked, text) = b.asked().await;
    assert!(text == longest);
    b.answer(asked, &too_long);
    assert_eq!(a.answered(2).await, None);
    assert_eq!(b.count("too_long"), 1);

    a.ask(&b, 3, "shorter?");
    let (_, asked, _) = b.asked().await;
    b.answer(asked, &longest);
    assert!(a.answered(3).await.as_ref() == Some(&longest));
}

#[tokio::test]
async fn a_question_without_an_answer_is_given_up_in_time() {
    let pace = Pace {
        answer_timeout: Duration::from_millis(500),
        ..Pace::default()
    };
    let mut hosts = members(2, pace).await;
    let (mut b, mut a) = (hosts.pop().unwrap(), hosts.pop().unwrap());

    a.ask(&b, 1, "well?");
    let (_, asked, _) = b.asked().await;
    assert_eq!(a.answered(1).await, None);
    assert_eq!(a.count("no_answer"), 1);
    b.counts("unanswered", 1).await;

    // Too late, and the next question is not confused by it.
    b.answer(asked, "late");
    a.ask(&b, 2, "and now?");
    let (_, asked, _) = b.asked().await;
    b.answer(asked, "in time");
    assert_eq!(a.answered(2).await.as_deref(), Some("in time"));
}

#[tokio::test]
async fn hosts_that_are_unknown_or_away_are_not_waited_for() {
    let mut a = Host::open(1).await;
    let b = Host::open(2).await;
    a.ask(&b, 1, "who?");
    assert_eq!(a.answered(1).await, None);
    assert_eq!(a.count("not_admitted"), 1);

    a.admit(&b);
    let away = Host::open(3).await;
    a.admit(&away);
    a.send(OverlayCommand::Ask {
        to: away.id(),
        question: QuestionId(2),
        bytes: Vec::new(),
    });
    away.end().await;
    a.ask(&b, 3, "let me in");
    assert_eq!(a.answered(3).await, None);
}

#[tokio::test]
async fn a_host_that_takes_calls_and_says_nothing_is_not_waited_for_longer() {
    let pace = Pace {
        answer_timeout: Duration::from_millis(500),
        handshake_timeout: 2 * DEADLINE,
        ..Pace::default()
    };
    let mut hosts = members(2, pace).await;
    let (b, mut a) = (hosts.pop().unwrap(), hosts.pop().unwrap());
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    a.admit_at(&b, silent.local_addr().unwrap());

    a.ask(&b, 1, "anyone?");
    assert_eq!(a.answered(1).await, None);
    assert_eq!(a.count("no_answer"), 1);
}

#[tokio::test]
async fn a_host_that_goes_answers_no_more() {
    let (mut a, mut b) = pair().await;
    a.ask(&b, 1, "well?");
    b.asked().await;
    b.end().await;
    assert_eq!(a.answered(1).await, None);
}
