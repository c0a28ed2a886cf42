//! What the tests of the door use in place of a bucket, a queue and a clock.
