//! The store's suite.
