//! Whether a new table may take the place of the one in force.
