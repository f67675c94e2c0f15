//! What must hold of any bytes read as a composition's text: shared by the fuzz target and by the test
//! that damages good texts.

use margay_core::address::Ipv4Block;
use margay_core::composition::Composition;
use margay_core::id::RequestId;
use margay_core::moment::Moment;
use margay_core::port::{Input, Output};
use margay_core::router::{Router, RouterConfig};

/// Reads `bytes` and applies what was read; panics where a refusal says nothing, or where an operator
/// is not answered. Returns whether it was read.
pub(crate) fn check_composition(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else {
        return false;
    };
    let composition = match Composition::parse(text) {
        Ok(composition) => composition,
        Err(mistakes) => {
            assert!(!mistakes.render("shop.toml", text).is_empty());
            return false;
        }
    };
    let config = RouterConfig {
        instances_max: 16,
        ..RouterConfig::new([7; 32], Ipv4Block::DEFAULT)
    };
    let mut router = Router::new(config, 1, Moment::ORIGIN);
    let request = RequestId(1);
    let apply = Input::Apply {
        request,
        composition,
    };
    router.handle_input(apply, Moment::ORIGIN);
    let mut outputs = std::iter::from_fn(|| router.poll_output());
    let is_answer = |output: Output| matches!(output, Output::Respond { .. });
    assert!(outputs.any(is_answer), "nobody is answered");
    true
}
