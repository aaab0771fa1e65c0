//! The medians of a run as bars, in SVG.

use std::time::Duration;

/// A group of bars: a command of a case, and each runtime's median.
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) bars: Vec<(String, Duration)>,
}

/// Colours by runtime or place, in the order in which they come: told apart also without colour sight, on white and on black.
const COLOURS: [&str; 10] =
    ["#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#f0e442", "#882255", "#44aa99"];
const WIDTH: u32 = 760;
const LEFT: u32 = 210;
const RIGHT: u32 = 90;
const BAR: u32 = 13;
const GAP: u32 = 12;
const TOP: u32 = 46;

/// Draws all groups below each other; each has a scale of its own, since what counts is the ratio within it.
pub(crate) fn render(title: &str, groups: &[Group]) -> String {
    let rows: u32 = groups.iter().map(|group| BAR * count(group) + GAP).sum();
    let height = TOP + rows + GAP;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"{GAP}\" y=\"18\" font-size=\"14\">{}</text>\n\
         <text x=\"{GAP}\" y=\"34\" fill=\"#555\">medians in ms, shorter is faster; each group has its own scale</text>\n",
        escape(title)
    );
    let mut names: Vec<&str> = Vec::new();
    let mut y = TOP;
    for group in groups {
        let longest = group.bars.iter().map(|(_, time)| *time).max().unwrap_or_default();
        text += &format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
            LEFT - 8,
            y + BAR - 3,
            escape(&group.title)
        );
        for (name, time) in &group.bars {
            let at = names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name);
                names.len() - 1
            });
            let share = if longest.is_zero() { 0.0 } else { time.as_secs_f64() / longest.as_secs_f64() };
            let width = share * f64::from(WIDTH - LEFT - RIGHT);
            let baseline = y + BAR - 3;
            text += &format!(
                "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{}\"/>\n\
                 <text x=\"{:.1}\" y=\"{baseline}\">{} {:.2}</text>\n",
                BAR - 2,
                COLOURS[at % COLOURS.len()],
                f64::from(LEFT) + width + 4.0,
                escape(name),
                time.as_secs_f64() * 1000.0
            );
            y += BAR;
        }
        y += GAP;
    }
    text + "</svg>\n"
}

fn count(group: &Group) -> u32 {
    u32::try_from(group.bars.len()).unwrap_or(u32::MAX)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share_of_the_longest() {
        let bars = vec![("ours".to_owned(), Duration::from_millis(5)), ("a<b".to_owned(), Duration::from_millis(20))];
        let svg = render("runs & more", &[Group { title: "run".to_owned(), bars }]);
        assert!(svg.contains("width=\"115.0\"") && svg.contains("width=\"460.0\""), "{svg}");
        assert!(svg.contains("runs &amp; more") && svg.contains(">a&lt;b 20.00<"), "{svg}");
        assert_eq!(svg.matches("<text").count(), 5);
    }
}
