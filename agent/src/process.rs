//! Every process of this machine, kept true by kernel events.
