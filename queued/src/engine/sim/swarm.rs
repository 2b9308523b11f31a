//! Very large clusters.
