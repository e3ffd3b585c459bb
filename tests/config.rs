//! The configuration as its author meets it: good files make a plan, bad ones say everything that
//! is wrong with them, each thing at its place.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel::config::{
    Access, Algorithm, Errors, Format, Loaded, Plan, Workers, load, parse, schema,
};
use serde_json::Value;

/// `tests/bad-configs/NAME.yaml` (or toml, or json) beside `NAME.err`, which has what is said about
/// it. `UPDATE_EXPECT=1` rewrites the latter; read the diff.
#[test]
fn bad_configs_say_what_is_wrong() {
    let mut wrong = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for path in files_in("tests/bad-configs", &["yaml", "toml", "json"]) {
        assert!(seen.insert(path.with_extension("err")), "{} shares its .err", path.display());
        let name = path.file_name().and_then(|name| name.to_str()).expect("a plain file name");
        let text = fs::read_to_string(&path).expect("readable");
        let said = match parse(&text, name, format_of(&path), &environment) {
            Ok(_) => {
                wrong.push(format!("{name} is accepted"));
                continue;
            }
            Err(errors) => format!("{errors}\n"),
        };
        let expected = path.with_extension("err");
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&expected, &said).expect("writable");
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("{name} says\n{said}"));
        }
    }
    let count = seen.len();
    assert!(count >= 60, "only {count} bad configurations found");
    assert!(wrong.is_empty(), "UPDATE_EXPECT=1 accepts:\n{}", wrong.join("\n"));
}

/// The reference for operators: whoever copies it and changes nothing has the defaults.
#[test]
fn the_full_config_is_the_defaults() {
    let full = read(&file("configs/full.yaml")).expect("full.yaml is good");
    assert_eq!(full.warnings, []);
    let bare = "listeners: [{name: web, bind: 0.0.0.0:8080, pool: web}]\n\
                pools: [{name: web, backends: [10.0.0.1:80]}]\n";
    assert_eq!(full.plan, read(bare).expect("the bare form is good").plan);
}

#[test]
fn the_full_config_has_every_key_that_works() {
    let document = yaml(&file("configs/full.yaml"));
    let mut missing = Vec::new();
    missing_keys(&schema(), &document, "", &mut missing);
    // The simple form, which the full one excludes, and a section of which nothing works yet.
    let others = ["/listen", "/algorithm", "/backends", "/admin"];
    missing.retain(|key| !others.contains(&key.as_str()));
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn defaults_are_those_of_the_default_sheet() {
    let plan = read(&file("configs/minimal.yaml")).expect("minimal.yaml is good").plan;
    let timeouts = plan.listeners[0].timeouts;
    assert_eq!(plan.workers, Workers::Auto);
    assert_eq!(plan.drain, Duration::from_secs(300));
    assert_eq!(timeouts.connect, Duration::from_secs(5));
    assert_eq!(timeouts.connect_total, Duration::from_secs(10));
    assert_eq!(timeouts.idle, Some(Duration::from_secs(3600)));
    assert_eq!(timeouts.half_close, Some(Duration::from_secs(300)));
    assert_eq!(timeouts.max_lifetime, None);
    let keepalive = plan.tcp.keepalive.expect("on by default");
    assert_eq!(
        (keepalive.idle.as_secs(), keepalive.interval.as_secs(), keepalive.count),
        (60, 15, 4)
    );
    assert_eq!(plan.tcp.user_timeout, Some(Duration::from_secs(120)));
    assert_eq!((plan.tcp.backlog, plan.limits.accepts_per_wake), (65535, 16));
    assert_eq!(plan.pools[0].algorithm, Algorithm::RoundRobin);
    assert_eq!(plan.pools[0].retry.attempts, 3);
    assert_eq!(plan.pools[0].backends[1].name, "b2");
}

#[test]
fn example_configs_are_good_and_fit_the_schema() {
    for path in files_in("configs", &["yaml"]) {
        let text = fs::read_to_string(&path).expect("readable");
        let loaded = read(&text).unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
        assert_eq!(loaded.warnings, [], "{}", path.display());
        fits_schema(&yaml(&text)).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
    }
    // A schema knows no null, so off.yaml, which has some, stays out.
    for name in ["odd", "advisory", "chain", "merge", "override", "notations"] {
        let text = file(&format!("tests/good-configs/{name}.yaml"));
        fits_schema(&yaml(&text)).unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

/// The schema is for other people's tools, so that it changes only on purpose.
#[test]
fn the_schema_is_the_one_published() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/schema.json");
    let now = format!("{:#}\n", schema());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &now).expect("writable");
    }
    let published = fs::read_to_string(&path).unwrap_or_default();
    assert!(published == now, "UPDATE_EXPECT=1 rewrites configs/schema.json");
}

#[test]
fn the_schema_refuses_what_the_decoder_refuses() {
    for text in [
        "listen: 0.0.0.0:80\nbackends: [10.0.0.1:80]\nzebra: 1",
        "listen: 0.0.0.0:80\nbackends: [{address: 10.0.0.1:80, wieght: 1}]",
        "listen: 0.0.0.0:80\nbackends: [{weight: 1}]",
        "listen: 0.0.0.0:80\nbackends: [{address: 10.0.0.1:80, weight: 257}]",
        "listen: 0.0.0.0:80\nbackends: [10.0.0.1:80]\nworkers: many",
        "listen: 0.0.0.0:80\nbackends: [10.0.0.1:80]\nlisteners: []\npools: []",
        "listen: 0.0.0.0:80",
    ] {
        assert!(read(text).is_err(), "accepted by the decoder: {text}");
        assert!(fits_schema(&yaml(text)).is_err(), "accepted by the schema: {text}");
    }
}

#[test]
fn a_printed_plan_reads_back_to_itself() {
    for plan in plans() {
        let printed = plan.to_string();
        let again = parse(&printed, "printed.yaml", Format::Yaml, &|_| None);
        assert_eq!(again.unwrap_or_else(|errors| panic!("{errors}\n{printed}")).plan, plan);
        let json = plan.to_json();
        fits_schema(&json).unwrap_or_else(|why| panic!("{why}\n{json:#}"));
        let again = parse(&json.to_string(), "printed.json", Format::Json, &|_| None);
        assert_eq!(again.unwrap_or_else(|errors| panic!("{errors}\n{json:#}")).plan, plan);
    }
}

#[test]
fn the_same_in_three_notations() {
    let plans: Vec<Plan> =
        ["yaml", "toml", "json"].map(|ending| good(&format!("notations.{ending}")).plan).into();
    assert_eq!(plans[0], plans[1]);
    assert_eq!(plans[0], plans[2]);
}

#[test]
fn anchors_and_merges_save_typing() {
    let plan = good("merge.yaml").plan;
    assert_eq!(plan.pools[1].name, "b");
    assert_eq!(plan.pools[1].algorithm, Algorithm::LeastConnections);
    assert_eq!(plan.pools[1].backends, plan.pools[0].backends);
}

#[test]
fn variables_take_the_type_that_is_wanted() {
    let text = "listen: 0.0.0.0:${PORT}\nworkers: ${PORT:-x}\nbackends: [\"${HOST:-web}:80\"]\n\
                log: {output: \"/tmp/$${PORT}\"}\ntimeouts: {idle: \"${EMPTY:-5s}\"}\n";
    let errors = read(text).expect_err("8080 workers").to_string();
    assert_eq!(errors, "test.yaml:2:10: workers: 8080 is out of range (1 to 1024, or auto)");
    let text = text.replace("workers: ${PORT:-x}", "workers: ${NONE:-4}");
    let plan = read(&text).expect("good").plan;
    assert_eq!(plan.workers, Workers::Count(4));
    assert_eq!(plan.listeners[0].binds[0].to_string(), "0.0.0.0:8080");
    assert_eq!(plan.listeners[0].timeouts.idle, Some(Duration::from_secs(5)));
    assert!(plan.to_string().contains("$${PORT}"), "printed so that it reads back");
}

#[test]
fn a_listener_overrides_its_pool_and_a_pool_the_defaults() {
    let plan = good("override.yaml").plan;
    let (listener, pool) = (plan.listeners[0].timeouts, plan.pools[0].timeouts);
    assert_eq!((listener.idle, pool.idle), (None, Some(Duration::from_secs(120))));
    assert_eq!(listener.half_close, Some(Duration::from_secs(60)));
    assert_eq!((listener.connect, pool.connect), (Duration::from_secs(2), Duration::from_secs(2)));
    assert_eq!(plan.pools[0].retry.attempts, 5);
    assert_eq!(plan.pools[0].retry.backoff_max, Duration::from_secs(5));
}

#[test]
fn what_only_advises_is_a_warning() {
    let mut wrong = Vec::new();
    for path in files_in("tests/good-configs", &["yaml", "toml", "json"]) {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a plain file name");
        let said: String =
            good(name).warnings.iter().map(|warning| format!("{warning}\n")).collect();
        let expected = path.with_extension("warn");
        if std::env::var_os("UPDATE_EXPECT").is_some() && !said.is_empty() {
            fs::write(&expected, &said).expect("writable");
        }
        // No file, no warning: most good configurations have none.
        if fs::read_to_string(&expected).unwrap_or_default() != said {
            wrong.push(format!("{name} warns\n{said}"));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_EXPECT=1 accepts:\n{}", wrong.join("\n"));
}

#[test]
fn what_is_off_is_accepted_in_silence() {
    assert_eq!(good("off.yaml").warnings, []);
}

#[test]
fn chains_of_listeners_are_no_circle() {
    assert_eq!(good("chain.yaml").warnings, []);
}

#[test]
fn errors_come_one_by_one_and_as_json() {
    let errors = read("listen: 0.0.0.0:0\nbackends: []\n").expect_err("two mistakes");
    let places: Vec<(u32, u32)> =
        errors.iter().map(|problem| (problem.place.line, problem.place.column)).collect();
    assert_eq!(places, [(1, 9), (2, 11)]);
    let json = errors.to_json();
    assert_eq!(json[1]["key"], "backends");
    assert_eq!(json[1]["line"], 2);
    assert_eq!(json[1]["file"], "test.yaml");
}

#[test]
fn many_errors_are_counted_not_listed() {
    let errors = read(&"a: 1\n".repeat(100_000)).expect_err("nothing is known here");
    assert_eq!(errors.iter().count(), 1001);
    let last = errors.iter().last().map(ToString::to_string);
    assert_eq!(last.as_deref(), Some("test.yaml: and 99000 more errors"));
}

#[test]
fn files_that_cannot_be_read_say_so_at_once() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("config-files");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("a-directory.yaml")).expect("writable");
    let path = |name: &str| folder.join(name);
    fs::write(path("latin1.yaml"), b"listen: 0.0.0.0:80\nlog: {output: /tmp/\xe4}\n")
        .expect("writable");
    fs::write(path("large.yaml"), vec![b'#'; (10 << 20) + 1]).expect("writable");
    fs::write(path("good.conf"), "listen: 0.0.0.0:80\nbackends: [10.0.0.1:80]\n")
        .expect("writable");
    fs::write(path("empty.yaml"), "").expect("writable");
    std::os::unix::fs::symlink("loop.yaml", path("loop.yaml")).expect("writable");
    nix::unistd::mkfifo(&path("fifo.yaml"), nix::sys::stat::Mode::S_IRWXU).expect("writable");
    for (name, expected) in [
        ("a-directory.yaml", ": is a directory (name the file in it)"),
        ("latin1.yaml", ":2:20: not valid UTF-8 from here on"),
        ("large.yaml", ": is larger than 10 MiB"),
        (
            "good.conf",
            ": cannot tell how it is written (the name must end in .yaml, .yml, .toml or .json)",
        ),
        ("empty.yaml", ": is empty (give at least listen and backends)"),
        ("fifo.yaml", ": is a FIFO (a reload reads it again, so it must be a file)"),
        ("absent.yaml", ": cannot read it: there is no such file"),
        ("empty.yaml/x.yaml", ": cannot read it: not a directory"),
    ] {
        let errors = load(&path(name), &environment).expect_err(name).to_string();
        assert_eq!(errors, format!("{}{expected}", path(name).display()));
    }
    let errors = load(&path("loop.yaml"), &environment).expect_err("a loop").to_string();
    assert!(errors.contains("cannot read it: too many levels of symbolic links"), "{errors}");
    // Root reads everything, so the permission only counts for others.
    if !nix::unistd::geteuid().is_root() {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path("empty.yaml"), fs::Permissions::from_mode(0o000)).expect("ours");
        let errors = load(&path("empty.yaml"), &environment).expect_err("unreadable").to_string();
        assert!(errors.ends_with("cannot read it: permission denied"), "{errors}");
    }
}

#[test]
fn a_byte_order_mark_and_foreign_line_ends_are_fine() {
    let text = "\u{feff}listen: 0.0.0.0:80\r\nbackends:\r\n  - 10.0.0.1:80\r\n";
    assert_eq!(read(text).expect("good").plan.pools[0].backends.len(), 1);
    let text = "\u{feff}listen = \"0.0.0.0:80\"\r\nbackends = [\"10.0.0.1:80\"]\r\n";
    assert!(parse(text, "a.toml", Format::Toml, &environment).is_ok());
    let text = "\u{feff}{\"listen\": \"0.0.0.0:80\",\r\n\"backends\": [\"10.0.0.1:80\"]}\r\n";
    assert!(parse(text, "a.json", Format::Json, &environment).is_ok());
}

/// Damaged copies of good files: whatever comes of them, it is a plan or messages of one line.
#[test]
fn damaged_configs_do_not_panic() {
    let full = file("configs/full.yaml");
    let json = format!("{:#}", read(&full).expect("good").plan.to_json());
    let toml = file("tests/good-configs/notations.toml");
    let mut texts = vec![(full, Format::Yaml), (json, Format::Json), (toml, Format::Toml)];
    for name in ["later-protection", "later-routing", "advisory-misspelt", "k2-no-values"] {
        texts.push((file(&format!("tests/bad-configs/{name}.yaml")), Format::Yaml));
    }
    // EVENKEEL_ROUNDS widens the search; every run makes the same edits in the same order.
    let rounds = std::env::var("EVENKEEL_ROUNDS").ok().and_then(|text| text.parse().ok());
    for (text, format) in &texts {
        for end in (0..text.len()).step_by(5).filter(|end| text.is_char_boundary(*end)) {
            judge(&text[..end], *format);
        }
        let mut random = Random(0x5eed);
        for _ in 0..rounds.unwrap_or(1000) {
            judge(&damage(text, &mut random), *format);
        }
    }
}

fn judge(text: &str, format: Format) {
    match parse(text, "damaged", format, &environment) {
        Ok(loaded) => {
            let again = parse(&loaded.plan.to_string(), "printed", Format::Yaml, &|_| None);
            assert_eq!(again.map(|loaded| loaded.plan), Ok(loaded.plan), "{text}");
        }
        Err(errors) => {
            assert!(errors.iter().next().is_some(), "no plan and no error:\n{text}");
            for error in &errors {
                let line = error.to_string();
                assert!(line.starts_with("damaged") && !line.contains('\n'), "{line}");
            }
        }
    }
}

/// One to four edits: swap a byte, drop a stretch, repeat one, put in what means something.
fn damage(text: &str, random: &mut Random) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len().max(1));
        let to = (at + random.below(40)).min(bytes.len());
        match random.below(5) {
            0 if at < bytes.len() => bytes[at] = b' ' + random.below(95) as u8,
            1 => drop(bytes.drain(at.min(to)..to)),
            2 => {
                let stretch = bytes[at.min(to)..to].to_vec();
                bytes.splice(to..to, stretch);
            }
            3 => {
                const TOKENS: [&str; 14] = [
                    "\n", "- ", ": ", "{", "}", "[", "]", "&a ", "*a", "${X}", "null", "-1", "off",
                    "\"",
                ];
                bytes.splice(at.min(to)..at.min(to), TOKENS[random.below(14)].bytes());
            }
            _ => {
                let line = text.lines().nth(random.below(text.lines().count())).unwrap_or("");
                bytes.splice(to..to, format!("\n{line}\n").bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Marsaglia's xorshift: enough to pick edits, and the same ones every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// Plans far from each other, the defaults among them.
fn plans() -> Vec<Plan> {
    let example = |name: &str| read(&file(&format!("configs/{name}.yaml"))).expect("good").plan;
    let mut plans =
        vec![example("full"), example("web"), example("minimal"), good("odd.yaml").plan];
    for access in [Access::Off, Access::Errors] {
        let mut plan = example("minimal");
        plan.log.access = access;
        plans.push(plan);
    }
    plans
}

/// As much of JSON Schema as ours uses, patterns apart.
fn fits_schema(document: &Value) -> Result<(), String> {
    fits(document, &schema(), "")
}

fn fits(value: &Value, schema: &Value, path: &str) -> Result<(), String> {
    let complain = |why: &str| Err(format!("{path}: {value} {why}"));
    if schema["$ref"] == "#/$defs/variable"
        && !value.as_str().is_some_and(|text| text.contains("${"))
    {
        return complain("is no variable");
    }
    if let Some(options) = schema["anyOf"].as_array()
        && !options.iter().any(|option| fits(value, option, path).is_ok())
    {
        return complain("fits no alternative");
    }
    if let Some(options) = schema["oneOf"].as_array()
        && options.iter().filter(|option| fits(value, option, path).is_ok()).count() != 1
    {
        return complain("does not fit exactly one form");
    }
    if !schema["not"].is_null() && fits(value, &schema["not"], path).is_ok() {
        return complain("fits what it must not");
    }
    if let Some(options) = schema["enum"].as_array()
        && !options.contains(value)
    {
        return complain("is not one of the choices");
    }
    if !schema["const"].is_null() && schema["const"] != *value {
        return complain("is not the constant");
    }
    let right_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        _ => true,
    };
    if !right_type {
        return complain("has another type");
    }
    let bound = |key: &str| schema[key].as_f64();
    if let Some(number) = value.as_f64()
        && (bound("minimum").is_some_and(|min| number < min)
            || bound("maximum").is_some_and(|max| number > max))
    {
        return complain("is out of range");
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        if value[key.as_str().unwrap_or_default()].is_null() {
            return complain(&format!("lacks {key}"));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        fits(item, &schema["items"], path)?;
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        let path = format!("{path}/{key}");
        match &schema["properties"][key] {
            Value::Null if schema["additionalProperties"] == false => {
                return Err(format!("{path} is unknown"));
            }
            Value::Null => {}
            schema => fits(inner, schema, &path)?,
        }
    }
    Ok(())
}

/// Keys of the schema that this version acts on and `document` does not show.
fn missing_keys(schema: &Value, document: &Value, path: &str, missing: &mut Vec<String>) {
    let alternatives = schema["anyOf"].as_array().into_iter().flatten();
    for schema in std::iter::once(schema).chain(alternatives) {
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}/{key}");
            let description = inner["description"].as_str().unwrap_or_default();
            let works =
                !description.contains("this version") || description.contains("(in this version");
            let neutral_only = ["/listeners/limits/per_source", "/listeners/limits/dry_run"];
            let asks_nothing = description.contains("(in this version: 0)")
                || description.contains("(in this version: false)")
                || description.contains("(in this version: reset)")
                || neutral_only.contains(&path.as_str());
            if !works || asks_nothing {
                continue;
            }
            match &document[key] {
                Value::Null => missing.push(path),
                found => missing_keys(inner, found, &path, missing),
            }
        }
        if let (Some(items), Some(first)) = (schema.get("items"), document.get(0)) {
            missing_keys(items, first, path, missing);
        }
    }
}

fn yaml(text: &str) -> Value {
    // `off` is a word here, as it is for us.
    let options = serde_yaml::options! { strict_booleans: true };
    serde_yaml::from_str_with_options(text, options).unwrap_or_else(|error| panic!("{error}"))
}

fn good(name: &str) -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good-configs").join(name);
    let text = fs::read_to_string(&path).expect("readable");
    parse(&text, name, format_of(&path), &environment).unwrap_or_else(|errors| panic!("{errors}"))
}

fn file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("readable")
}

/// What variables the tests see.
fn environment(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("8080".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

fn files_in(folder: &str, endings: &[&str]) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|ending| endings.iter().any(|e| ending == *e)))
        .collect();
    files.sort();
    files
}

fn format_of(path: &Path) -> Format {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => Format::Toml,
        Some("json") => Format::Json,
        _ => Format::Yaml,
    }
}

fn read(text: &str) -> Result<Loaded, Errors> {
    parse(text, "test.yaml", Format::Yaml, &environment)
}
