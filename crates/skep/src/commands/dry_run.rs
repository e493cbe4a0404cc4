//! What `--dry-run` prints.

use serde_json::{Value, json};
use skep_core::model::ClusterName;
use skep_core::observed::Observed;
use skep_core::plan::{Change, Mark, Plan, diff};
use skep_print::{errln, out, outln};

use crate::cli::{Detail, DryRun, Output, WorkFormat};
use crate::context::Context;
use crate::render::{write_changes, write_document};

/// The number of the JSON output's format.
const FORMAT: u32 = 1;

/// What a command would do.
pub(super) struct Preview<'a> {
    /// The cluster.
    pub name: &'a ClusterName,
    /// The plan.
    pub plan: &'a Plan,
    /// What the plan and what comes after it change.
    pub changes: Vec<Change>,
}

impl<'a> Preview<'a> {
    pub(super) fn of(name: &'a ClusterName, seen: &Observed, plan: &'a Plan) -> Self {
        Self { name, plan, changes: diff(name, seen, plan) }
    }

    /// Adds what is done once the plan is carried out.
    pub(super) fn and(mut self, changes: impl IntoIterator<Item = Change>) -> Self {
        self.changes.extend(changes);
        self
    }

    pub(super) fn print(&self, context: &Context, how: DryRun) {
        match how.output {
            WorkFormat::Json => write_document(Output::Json, &self.document()),
            WorkFormat::Text => self.print_diff(context),
        }
    }

    fn print_diff(&self, context: &Context) {
        let Self { plan, changes, .. } = self;
        for warning in &plan.warnings {
            errln!("warning: {warning}");
        }
        if plan.is_empty() && changes.is_empty() {
            outln!("nothing to do");
            return;
        }
        write_changes(changes);
        if !changes.is_empty() {
            outln!();
        }
        outln!("{}", summary(changes, plan.steps.len()));
        if plan.look_again {
            outln!("more may follow, depending on what the engines answer");
        }
        if context.detail == Detail::Steps && !plan.is_empty() {
            out!("\n{plan}");
        }
    }

    fn document(&self) -> Value {
        let Self { name, plan, changes } = self;
        let change = |change: &Change| {
            let mut value = json!(change);
            value["text"] = json!(change.to_string());
            value
        };
        let steps = plan.steps.iter().enumerate().map(|(index, step)| {
            let after: Vec<_> = step.needs.iter().map(|need| need + 1).collect();
            json!({
                "number": index + 1,
                "node": step.action.node(),
                "title": step.action.to_string(),
                "after": after,
            })
        });
        json!({
            "format": FORMAT,
            "cluster": name,
            "changes": changes.iter().map(change).collect::<Vec<_>>(),
            "steps": steps.collect::<Vec<_>>(),
            "complete": !plan.look_again,
            "warnings": plan.warnings,
        })
    }
}

fn summary(changes: &[Change], steps: usize) -> String {
    let count = |mark| changes.iter().filter(|change| change.change == mark).count();
    let steps = match steps {
        0 => String::new(),
        1 => "; 1 step (-v prints it)".to_owned(),
        steps => format!("; {steps} steps (-v prints them)"),
    };
    match changes.is_empty() {
        true => format!("no changes{steps}"),
        false => {
            let [added, changed, removed] = [Mark::Add, Mark::Change, Mark::Remove].map(count);
            format!("{added} to add, {changed} to change, {removed} to remove{steps}")
        }
    }
}
