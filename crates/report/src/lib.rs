//! From the ledger to tables, figures and one page.
