//! What holds on Redis beyond the contract.
