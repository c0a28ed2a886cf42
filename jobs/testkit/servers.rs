//! What tests are given by `ops/test`, and what becomes of those that are not.

use std::env;

/// Whoever sets this wants no test to be skipped.
const REQUIRE: &str = "LONGSHORE_TEST_REQUIRE";

/// What the variable says, where a server is for one. `None`, and a word about it, when it is not set: then `what` is skipped, or
/// fails where nothing may be.
#[must_use]
#[expect(clippy::print_stderr, reason = "whoever runs the tests has to see what was left out")]
pub fn given(variable: &str, what: &str) -> Option<String> {
    let value = env::var(variable).ok();
    if value.is_none() {
        let skipped = format!("SKIPPED: {what} ({variable} is not set; ops/test starts one)");
        assert!(env::var_os(REQUIRE).is_none(), "{skipped}");
        eprintln!("{skipped}");
    }
    value
}
