//! Neighbours that are known for good.

use super::Lab;
use anyhow::Result;

impl Lab {
    /// Tells a node where all others on its segments are, for as long as it lives.
    ///
    /// The kernel has one table for all its network namespaces, and by default room for a thousand
    /// neighbours that were looked for: less than forty hosts of one segment have of each other. What
    /// was told does not count. Nodes that change their address must not be told of.
    pub fn tell_neighbours(&self, node: &str) -> Result<()> {
        let own = self.node(node)?;
        let mut lines = Vec::new();
        for (number, link) in own.links.iter().enumerate() {
            let others = self
                .topology
                .nodes
                .iter()
                .filter(|other| other.name != node);
            let others = others.flat_map(|other| &other.links);
            for other in others.filter(|other| other.segment == link.segment) {
                let mac = self.find_link(&other.name)?.mac();
                for addr in &other.addresses {
                    let neighbour = format!("{addr} lladdr {mac} dev eth{number} nud permanent");
                    lines.push(format!("neigh replace {neighbour}"));
                }
            }
        }
        self.namespaces(node)?.ip(&lines)
    }
}
