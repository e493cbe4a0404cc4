//! Tests of templates: what Go's text/template prints for the same.

use super::*;
use serde_json::json;
use std::rc::Rc;

fn value() -> Value {
    Value::from_json(&json!({
        "Name": "box", "Port": 22, "Big": 1_000_000, "Part": 1.5, "On": true, "Nothing": null,
        "List": ["a", "b"], "Empty": [], "Map": {"y": 1, "x": "<"},
    }))
}

fn state() -> Value {
    Value::Word("state.State", 1, "Running".to_owned())
}

fn row() -> Value {
    let options =
        Struct { name: "*swarm.Options", fields: vec![("Host", Value::Text("h".into()))] };
    Value::Struct(Rc::new(Struct {
        name: "commands.HostListItem",
        fields: vec![
            ("Name", Value::Text("box".into())),
            ("State", state()),
            ("SwarmOptions", Value::Struct(Rc::new(options))),
            ("EngineOptions", Value::NullPointer("*engine.Options")),
        ],
    }))
}

fn run(text: &str, value: &Value) -> String {
    let json: Function = |value| Ok(Value::Text(value.to_json().to_string()));
    let mut out = String::new();
    match Template::parse(text, &[("json", json)]) {
        Ok(template) => {
            if let Err(error) = template.execute(value, &mut out) {
                out.push_str(&format!("!{error}"));
            }
        }
        Err(error) => out = format!("!{error}"),
    }
    out
}

#[test]
fn what_is_there_is_printed() {
    for (text, expected) in [
        ("plain", "plain"),
        ("{{.Name}}:{{.Port}} {{.Big}} {{.Part}} {{.On}}", "box:22 1e+06 1.5 true"),
        ("{{.Map}} {{.List}} {{.Empty}}", "map[x:< y:1] [a b] []"),
        ("{{.None}} {{.None.Deeper}} {{.Nothing}}", "<no value> <no value> <no value>"),
        ("a {{- .Name -}} b", "aboxb"),
        ("{{/* no word */}}x{{- /* of it */ -}} y", "xy"),
        ("{{with .Map}}{{.x}}{{end}}{{with .Empty}}no{{else}}yes{{end}}", "<yes"),
        ("{{range .List}}[{{.}}]{{end}}{{range .Empty}}{{else}}none{{end}}", "[a][b]none"),
        ("{{range $k, $v := .Map}}{{$k}}={{$v}};{{end}}", "x=<;y=1;"),
        ("{{range $i, $e := .List}}{{if $i}},{{end}}{{$e}}{{end}}", "a,b"),
        ("{{range .List}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a"),
        ("{{range .List}}{{if eq . \"a\"}}{{continue}}{{end}}{{.}}{{end}}", "b"),
        ("{{$x := 1}}{{if .On}}{{$x = 2}}{{end}}{{$x}}{{$.Name}}", "2box"),
        ("{{if and .On .Empty}}a{{else if or .Empty .Name}}b{{else}}c{{end}}", "b"),
        ("{{if not .On}}a{{end}}{{len .List}}{{index .List 1}}{{index .Map \"x\"}}", "2b<"),
        (
            "{{printf \"%s-%5d|%-4s|%q|%v|%t\" .Name 7 \"a\" \"b\" .Port .On}}",
            "box-    7|a   |\"b\"|22|true",
        ),
        ("{{printf \"%.1f %05.1f %d\" .Part .Part .Port}}", "1.5 001.5 %!d(float64=22)"),
        ("{{.Name | printf \"%s %s\" \"x\"}}", "x box"),
        ("{{print 1 2 \"a\" 3}}|{{println \"a\" 1}}", "1 2a3|a 1\n"),
        ("{{html \"<'\"}}{{js \"'\"}}{{urlquery \"a b&\"}}", "&lt;&#39;\\'a+b%26"),
        (
            "{{eq .Name \"a\" \"box\"}}{{ne .Port 1.0}}{{lt 1 2}}{{ge \"a\" \"b\"}}",
            "truetruetruefalse",
        ),
        ("{{(index .List 0) | json}}{{json .Map}}", "\"a\"{\"x\":\"<\",\"y\":1.0}"),
        ("{{slice .Name 1 2}}{{`raw \\n`}}{{'a'}}{{\"\\u0041\\x42\\n\"}}", "oraw \\n97AB\n"),
        ("{{define \"t\"}}<{{.}}>{{end}}{{template \"t\" .Name}}", "<box>"),
        ("{{block \"b\" .Port}}{{.}}{{end}}", "22"),
        ("{{\n.Name\n}}", "box"),
    ] {
        assert_eq!(run(text, &value()), expected, "{text}");
    }
}

#[test]
fn structures_have_fields_only() {
    for (text, expected) in [
        ("{{.Name}} {{.State}} {{.SwarmOptions.Host}} {{.SwarmOptions}}", "box Running h {h}"),
        ("{{if eq .State 1}}up{{end}} {{printf \"%s %d\" .State .State}}", "up Running 1"),
        (
            "{{.Frob}}",
            "!template: :1:2: executing \"\" at <.Frob>: can't evaluate field Frob in type commands.HostListItem",
        ),
        (
            "ab\n{{.Name}} {{.EngineOptions.InstallURL}}",
            "ab\nbox !template: :2:26: executing \"\" at <.EngineOptions.InstallURL>: \
             nil pointer evaluating *engine.Options.InstallURL",
        ),
    ] {
        assert_eq!(run(text, &row()), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_in_gos_words() {
    let texts = [
        "{{.Name",
        "{{.Name\n",
        "{{",
        "{{}}",
        "{{end}}",
        "{{else}}",
        "{{if}}{{end}}",
        "{{if .On}}",
        "{{range .List}}{{else}}{{else}}{{end}}",
        "{{frob .}}",
        "{{$x}}",
        "{{.Name.}}",
        "{{.Name @}}",
        "{{\"a}}",
        "{{`a}}",
        "{{(.Name}}",
        "{{.Name)}}",
        "{{1a}}",
        "{{.Name | 1}}",
        "{{.Name |}}",
        "{{/* a}}",
        "{{break}}",
        "{{nil}}",
        "{{.Name.Deeper}}",
        "{{with .Name}}{{.Deeper}}{{end}}",
        "{{.Nothing.Deeper}}",
        "{{.Name 1}}",
        "{{1 2}}",
        "{{index .List 5}}",
        "{{index .List .Port}}",
        "{{len .Port}}",
        "{{len}}",
        "{{eq .Port 22}}",
        "{{eq 1}}",
        "{{lt .Map 1}}",
        "{{eq .List 1}}",
        "{{range .Name}}{{end}}",
        "{{template \"none\"}}",
        "{{define \"t\"}}{{template \"t\"}}{{end}}{{template \"t\"}}",
        "{{printf 1}}",
        "{{.Name = 1}}",
    ];
    let said = texts.map(|text| format!("{text:?}: {}", run(text, &value())));
    insta::assert_snapshot!(said.join("\n"));
}

#[test]
fn what_is_nested_without_end_is_refused() {
    for text in ["{{(".repeat(5000), "{{if 1}}".repeat(5000), "(".repeat(9)] {
        run(&format!("{{{{{text}"), &value());
        run(&text, &value());
    }
    assert!(run(&format!("{{{{{}", "(".repeat(5000)), &value()).contains("nested too deep"));
}

proptest::proptest! {
    #[test]
    fn no_text_breaks_it(text in "(\\{\\{|\\}\\}|if|range|end|else|with|define|\\.[A-Z]|[a-z0-9$=:,|()\"`' \n{}/*ß-]){0,30}") {
        run(&text, &value());
        run(&format!("{{{{{text}}}}}"), &row());
        run(&format!("{{{{printf \"%{}\" .Port .Name}}}}", text.replace('"', "")), &value());
    }
}
