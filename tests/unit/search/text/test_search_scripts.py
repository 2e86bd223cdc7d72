"""Documents found by queries, in every script: found and not found pairs."""

from __future__ import annotations

import pytest

from search.query.nodes import Filter, Kind
from search.query.parser import parse_query
from search.terms import Terms, holds
from search.text.tags import normalize_tag, tags_in
from search.text.tokens import tokenize

# document, queries that find it, queries that do not
CASES: list[tuple[str, list[str], list[str]]] = [
    # Latin accents, ligatures and letters
    ("Un café très bon", ["cafe", "CAFÉ", "cafe\u0301", "tres bon"], ["caf", "cafes"]),
    ("naïve façade Ærø", ["naive", "facade", "aero", "Ærø"], ["nave"]),
    ("die Straße in Gießen", ["strasse", "STRASSE", "straße", "Giessen"], ["strase"]),
    ("MASSE und Maß", ["mass", "Maß", "masse"], []),
    ("København og Ålborg", ["kobenhavn", "Aalborg", "alborg", "ålborg"], ["borg"]),
    ("Aarhus er dejlig", ["Århus", "aarhus", "arhus"], []),
    ("Søren Kierkegaard", ["Kierkegård", "soren", "kierkegaard"], ["gaard"]),
    ("Łódź jest piękna", ["lodz", "Łódź", "piekna"], ["odz"]),
    ("Þór og Guðrún", ["thor", "Þór", "gudrun", "GUÐRÚN"], ["or"]),
    ("Đà Nẵng đẹp lắm", ["da nang", "Đà Nẵng", "dep lam", "đẹp"], ["ang"]),
    ("Tiếng Việt có dấu", ["tieng viet", "tiếng", "co dau"], ["iet"]),
    ("tieng viet khong dau", ["tiếng việt", "không dấu"], []),
    (
        "İstanbul çok güzel",
        ["istanbul", "ISTANBUL", "İSTANBUL", "ıstanbul"],
        ["stanbul"],
    ),
    ("ırmak kıyısı ISPARTA", ["irmak", "IRMAK", "kiyisi", "ısparta", "isparta"], []),
    ("İZMİR FUARI", ["izmir", "fuarı", "fuari"], []),
    ("ﬁnal oﬀer", ["final", "offer"], []),
    ("ＦＵＬＬ ｗｉｄｔｈ １２３", ["full", "width", "123"], ["12"]),
    ("𝓗𝓮𝓵𝓵𝓸 world", ["hello"], []),
    ("zero\u200bwidth so\u00adft wo\u2060rd", ["zerowidth", "soft", "word"], ["zero"]),
    ("\u202balice\u202c here", ["alice"], []),
    ("Nike™ shoes", ["nike"], []),
    # Greek, Cyrillic, Armenian, Georgian
    ("Οδυσσέας και Αθήνα", ["οδυσσεας", "ΟΔΥΣΣΕΑΣ", "αθηνα", "Αθήνα"], ["αθην"]),
    ("ὁ ἄνθρωπος ᾳ", ["ανθρωπος", "ο"], []),
    ("за́мок и замо́к", ["замок", "ЗАМОК"], ["амок"]),
    ("ёлка зелёная", ["елка", "Ёлка", "зеленая"], ["лка"]),
    ("Київ і їжак", ["київ", "їжак", "КИЇВ"], ["жак"]),
    ("бараний йод", ["йод", "и\u0306од"], []),
    ("Հայաստան", ["հայաստան", "ՀԱՅԱՍՏԱՆ"], ["հայ"]),
    ("საქართველო", ["საქართველო"], ["საქ"]),
    # Arabic, Persian, Urdu
    ("مُحَمَّدٌ رَسُول", ["محمد", "رسول", "مُحمد"], ["حمد"]),
    ("السلام عليكم", ["السَّلامُ", "السـلام", "عليكم"], ["سلام"]),
    ("الإسلام وأحمد", ["الاسلام", "واحمد"], []),
    ("مدرسة كبيرة", ["مدرسه", "كبيرة"], []),
    ("می\u200cخواهم بروم", ["میخواهم", "می\u200cخواهم", "بروم"], ["خواهم"]),
    ("ميخواهم", ["می\u200cخواهم"], []),
    ("کتاب یک", ["كتاب", "کتاب", "يك"], []),
    ("١٢٣ و ۴۵۶", ["123", "456", "١٢٣"], ["12"]),
    ("٣٫١٤", ["3.14", "٣٫١٤"], []),
    # Hebrew
    ("שָׁלוֹם עוֹלָם", ["שלום", "עולם", "שָׁלוֹם"], ["שלו"]),
    ("צה״ל וג׳ירפה", ["צהל", "וגירפה"], []),
    # Indic
    ("मुझे दिल्ली पसंद है", ["दिल्ली", "मुझे पसंद"], ["दल", "द", "दिल", "ली"]),
    ("द ल यहाँ अलग हैं", ["यहाँ"], ["दिल्ली", "यहा"]),
    ("ज़रूरी क़लम", ["ज़रूरी", "जरूरी", "कलम", "क़लम"], ["ज"]),
    ("हँस और हंस", ["हँस", "हंस"], []),
    ("हंस उड़ा", ["हंस"], ["हँस", "हस"]),
    ("২০২৬ আমি বাংলা বলি", ["বাংলা", "2026"], ["ব", "বল", "বাল"]),
    ("ব এবং ল আলাদা", ["আলাদা"], ["বাংলা"]),
    ("எனக்கு தமிழ் பிடிக்கும்", ["தமிழ்", "எனக்கு"], ["தம", "தமிழ"]),
    ("తెలుగు భాష", ["తెలుగు"], ["తలగ"]),
    ("ಕನ್ನಡ ನುಡಿ", ["ಕನ್ನಡ"], ["ಕನಡ"]),
    ("മലയാളം നന്നായി", ["മലയാളം", "നന്നായി"], ["മലയള"]),
    ("ગુજરાતી", ["ગુજરાતી"], ["ગજરત"]),
    ("ਪੰਜਾਬੀ", ["ਪੰਜਾਬੀ"], ["ਪਜਬ"]),
    ("සිංහල ශ්\u200dරී", ["සිංහල", "ශ්රී"], ["සහල"]),
    ("क\u200dष", ["कष", "क\u200dष"], []),
    ("བོད་ཡིག", ["བོད", "ཡིག"], ["བད"]),
    ("አማርኛ ቋንቋ", ["አማርኛ"], ["አማ"]),
    # Thai, Lao, Khmer, Myanmar
    ("วันนี้อากาศดีมาก", ["อากาศ", "วันนี้", "ดีมาก", "มาก", "ดี"], ["อากร", "นน"]),
    ("วันนี้ ที่นี่ ร้อน", ["ที่นี่", "ร้อน"], ["ทน", "รอน"]),
    ("ท กับ น", ["กับ"], ["ที่นี่"]),
    ("น้ำดื่ม", ["น้ำ", "ดื่ม", "น\u0e49\u0e4d\u0e32"], ["น้า"]),
    ("๒๕๖๙ ปี", ["2569", "ปี"], []),
    ("ສະບາຍດີປະເທດລາວ", ["ສະບາຍດີ", "ລາວ"], ["ສບ"]),
    ("សួស្តីកម្ពុជា", ["កម្ពុជា", "សួស្តី"], ["កពជ"]),
    ("မြန်မာစာ", ["မြန်မာ"], ["မန"]),
    # Han, kana, Hangul
    (
        "日本語の天気",
        ["日本", "天気", "本語", "日", "気", "語の天", "日本語の天気"],
        ["本日"],
    ),
    ("熱力学の話", ["熱力学", "学"], ["熱学"]),
    ("学校から帰って熱いお風呂に力を", ["学校", "力"], ["熱力学"]),
    ("猫", ["猫"], ["犬", "猫犬"]),
    ("黒猫と白い犬", ["猫", "犬", "黒", "白い"], ["白猫"]),
    ("カフェでコーヒー", ["かふぇ", "ｶﾌｪ", "コーヒー", "こーひー"], ["コヒー"]),
    ("ガギグ", ["がぎ", "ｶﾞｷﾞ", "か\u3099ぎ"], ["カキ", "かき"]),
    ("ハナ と バナナ", ["ばなな", "はな"], ["パナナ"]),
    ("東京2020大会", ["東京", "2020", "大会", "東京2020"], ["京2"]),
    ("我在台北學習", ["台北", "學習"], ["北台"]),
    ("𠮷野家", ["𠮷野", "𠮷", "野家"], ["吉野"]),
    ("葛\U000e0100城", ["葛城"], []),
    ("Pythonを学ぶ", ["python", "学ぶ", "PYTHON"], []),
    ("바다는 오늘 조용하다", ["바다", "오늘", "다", "바"], ["다바"]),
    ("고양이를 보았다", ["고양이", "고양", "를"], ["고이"]),
    ("서울지하철노선도", ["지하철", "노선", "도"], ["철지"]),
    ("\u1112\u1161\u11ab글", ["한글", "한"], []),
    ("ㅋㅋㅋ 웃겨", ["ㅋㅋ", "ㅋ", "웃겨"], ["ㅎㅎ"]),
    ("ㄅㄆㄇ", ["ㄅㄆ"], []),
    # Emoji
    ("good 🌞 day", ["🌞", "good 🌞"], ["🌝"]),
    ("👍🏽 nice", ["👍", "👍🏽", "👍🏿"], ["👎"]),
    ("👍 nice", ["👍🏽"], []),
    ("😂😂😂❤️", ["😂", "❤", "❤️", "😂😂"], ["❤️‍🔥"]),
    ("on fire ❤️‍🔥", ["❤️‍🔥", "❤", "🔥"], ["💛"]),
    ("👨‍👩‍👧 family", ["👨‍👩‍👧", "👩", "👧"], ["👨‍👩‍👦", "👦"]),
    ("👩🏽‍🚀 launch", ["👩‍🚀", "👩🏿‍🚀", "🚀"], ["👨‍🚀"]),
    ("go 🇩🇪🇫🇷", ["🇩🇪", "🇫🇷"], ["🇪🇫", "🇩🇰"]),
    ("🏴󠁧󠁢󠁥󠁮󠁧󠁿 win", ["🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🏴"], ["🏴󠁧󠁢󠁷󠁬󠁳󠁿"]),
    ("1️⃣ first #️⃣", ["1️⃣", "1⃣", "first", "1"], ["2️⃣"]),
    ("✂️ cut ⭐️", ["✂", "⭐", "✂️"], []),
    # Compounds and numbers
    ("don’t stop", ["don't", "dont", "DON’T", "donʼt", "don`t"], ["don", "t"]),
    ("Alice's book", ["alice", "alice's", "alices", "Alice’s"], ["s"]),
    ("l’amour d'été", ["amour", "l'amour", "ete"], ["l"]),
    ("O'Brien rock'n'roll", ["obrien", "o’brien", "rock", "roll"], []),
    ("my snake_case_name", ["snake", "case", "snake_case_name", "name"], ["snakecase"]),
    (
        "call getUserName now",
        ["user", "getusername", "getUserName", "name"],
        ["getuser"],
    ),
    ("YouTube HTTPServer iPhone", ["youtube", "server", "http", "iphone"], ["tube2"]),
    ("NASAs PhDs", ["nasas", "phds"], ["as"]),
    ("wi-fi and e-mail", ["wi-fi", "wifi", "email", "mail", "fi"], ["wif"]),
    ("wifi works", ["wi-fi", "wifi"], ["fi"]),
    ("a well-known fact", ["well-known", "known", "wellknown"], ["known-well"]),
    ("pi is 3.14 or 3,14", ["3.14", "3,14"], ["14", "3", "3.1"]),
    ("release v1.2.3 out", ["1.2.3", "v1.2.3"], ["1.2", "2.3"]),
    ("paid 1,000,000 won", ["1000000", "1,000,000"], ["000"]),
    ("buy $AAPL today", ["$AAPL", "aapl", "$aapl"], ["$AAP", "apl"]),
    ("aapl is a word", ["aapl"], ["$AAPL"]),
    ("C++ and C# and F#", ["c++", "C#", "c", "f#"], ["d#"]),
    (
        "see https://www.example.com/a/b-c",
        ["example.com", "example", "www"],
        ["com.example"],
    ),
    (
        "hi @alice.example.com!",
        ["alice.example.com", "alice", "example"],
        ["alice.com"],
    ),
    ("at 12:30 sharp", ["12:30", "12 30"], ["1230"]),
    ("a\0b c\ud800d", ["a b", "c", "d"], ["ab", "cd"]),
    # Tags typed without a facet
    ("so cute #Cats, really", ["#cats", "cats", "#CATS,"], ["#cat", "#really"]),
    ("hello ＃ねこ and #ABC", ["#ねこ", "#ＡＢＣ", "#abc"], ["#カフェ"]),
    ("#caf\u00e9 first", ["#cafe\u0301", "#CAFÉ"], ["#caf"]),
    ("(#inside) #1 #2026", ["#inside"], ["#1", "#2026"]),
    ("half#tag C# 1️⃣#️⃣", [], ["#tag", "#️⃣x"]),
    ("#zw\u200b end", ["#zw"], ["#end"]),
]
PAIRS = [
    (document, query, found)
    for document, right, wrong in CASES
    for query, found in (*((q, True) for q in right), *((q, False) for q in wrong))
]


def test_table_has_enough_pairs() -> None:
    assert len(PAIRS) >= 150


@pytest.mark.parametrize(("document", "query", "found"), PAIRS)
def test_query_finds_document(document: str, query: str, found: bool) -> None:
    terms = Terms(
        {"text": tokenize(document)},
        frozenset(Filter(Kind.TAG, normalize_tag(t)) for t in tags_in(document)),
    )
    where = parse_query(query, resolve_handle=lambda _: None).where
    assert holds(where, terms) is found, (where, terms)
