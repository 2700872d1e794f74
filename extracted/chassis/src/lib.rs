//! What every service of the estate shares.
