//! The five families of replay: who is replayed for whom, and in which order the paper has them gain.

use lethe_report::figure::Ink;

/// Which pattern is replayed for which: the five kinds of the paper, in the order that it claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// The outlier, for itself.
    OutlierSelf,
    /// A pattern of the cluster, for itself.
    ClusterSelf,
    /// One of the cluster for another of it.
    WithinCluster,
    /// The outlier for one of the cluster.
    ClusterFromOutlier,
    /// One of the cluster for the outlier.
    OutlierFromCluster,
}

impl Family {
    /// All, by net gain.
    pub const ALL: [Self; 5] = [
        Self::OutlierSelf,
        Self::ClusterSelf,
        Self::WithinCluster,
        Self::ClusterFromOutlier,
        Self::OutlierFromCluster,
    ];

    /// The family of one cell of the map, the cluster having `cluster` patterns.
    pub fn of(target: usize, source: usize, cluster: usize) -> Self {
        match (target == cluster, source == cluster) {
            (true, true) => Self::OutlierSelf,
            (false, true) => Self::ClusterFromOutlier,
            (true, false) => Self::OutlierFromCluster,
            (false, false) if target == source => Self::ClusterSelf,
            (false, false) => Self::WithinCluster,
        }
    }

    /// Its name on pages and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::OutlierSelf => "outlier self",
            Self::ClusterSelf => "cluster self",
            Self::WithinCluster => "within cluster",
            Self::ClusterFromOutlier => "outlier → cluster",
            Self::OutlierFromCluster => "cluster → outlier",
        }
    }

    /// Its look.
    pub fn ink(self) -> Ink {
        [Ink::RED, Ink::BLUE, Ink::GREEN, Ink::PLUM, Ink::OCHRE][self as usize]
    }
}

/// Which family gains more than which: the paper leaves the two between outlier and cluster unordered.
pub const ORDER: [[Family; 2]; 4] = [
    [Family::OutlierSelf, Family::ClusterSelf],
    [Family::ClusterSelf, Family::WithinCluster],
    [Family::WithinCluster, Family::ClusterFromOutlier],
    [Family::WithinCluster, Family::OutlierFromCluster],
];
