"""Sentences of the demo network in eight languages. Data, no logic.

{thing} and {place} are filled from the lists of the language, {n} is a small number.
Every sentence is far shorter than the 300 graphemes of a post.
"""

from __future__ import annotations

from dataclasses import dataclass

TOPICS = ("birds", "bread", "bicycles", "stars", "books", "trains")


@dataclass(frozen=True, slots=True)
class Language:
    """A language: sentences and words by topic, replies, and names.

    Names are pairs of a handle stem (ASCII) and the written form.
    """

    code: str
    posts: dict[str, tuple[str, ...]]
    things: dict[str, tuple[str, ...]]
    tags: dict[str, str]
    places: tuple[str, ...]
    replies: tuple[str, ...]
    quotes: tuple[str, ...]
    bio: str
    given: tuple[tuple[str, str], ...]
    family: tuple[tuple[str, str], ...]
    family_first: bool = False


ENGLISH = Language(
    code="en",
    posts={
        "birds": (
            "Saw {n} {thing} near {place} before breakfast. Nobody else was awake.",
            "The {thing} is back at {place}. Same branch as last year.",
            "Can anyone tell a young {thing} from an old one? {n} of them at {place}.",
        ),
        "bread": (
            "My {thing} rose for {n} hours and it was worth every minute.",
            "Baked a {thing} with flour from the mill at {place}. The crust sings.",
            "Day {n} of the sourdough starter. It smells like {place} after rain.",
        ),
        "bicycles": (
            "{n} kilometres today, from home to {place}, and only one {thing} broke.",
            "Fixed the {thing} on a neighbour's bike. They paid in apples.",
            "The new bike lane by {place} is finally open. Bring your {thing}.",
        ),
        "stars": (
            "Clear sky over {place}: the {thing} was bright enough to read by.",
            "Counted {n} meteors in an hour, then clouds hid the {thing}.",
            "First light through the new mirror. The {thing} looks like a smudge.",
        ),
        "books": (
            "Finished {thing} on the bench at {place}. I was not ready for the end.",
            "The library by {place} sells old copies of {thing} for {n} coins.",
            "Reading {thing} aloud takes {n} evenings. Recommended.",
        ),
        "trains": (
            "The night train to {place} was {n} minutes early. Unheard of.",
            "Spotted a {thing} at {place} station, freshly painted.",
            "Spent the day drawing the {thing} from memory. {n} mistakes so far.",
        ),
    },
    things={
        "birds": ("heron", "kingfisher", "wren", "barn owl", "goldfinch"),
        "bread": ("rye loaf", "focaccia", "country loaf", "bagel", "brioche"),
        "bicycles": ("derailleur", "spoke", "brake cable", "chain", "saddle"),
        "stars": ("Orion nebula", "Andromeda galaxy", "Pleiades", "Saturn", "Vega"),
        "books": ("Middlemarch", "The Dispossessed", "Dracula", "Emma", "Walden"),
        "trains": ("steam engine", "tram", "sleeper car", "railbus", "shunter"),
    },
    tags={
        "birds": "birdwatching",
        "bread": "sourdough",
        "bicycles": "cycling",
        "stars": "astronomy",
        "books": "bookclub",
        "trains": "railways",
    },
    places=("the old harbour", "Mill Lane", "the canal", "Highfield", "the bridge"),
    replies=(
        "This made my morning, thank you.",
        "I had no idea. Where did you learn that?",
        "Same here, but it took me twice as long.",
        "Please post a picture next time!",
        "Counting this as good news.",
        "I disagree, politely, and will bring cake.",
    ),
    quotes=("Everybody should read this.", "Adding this to my list.", "Look at this!"),
    bio="Mostly {topic} and {other}. Asks too many questions.",
    given=(
        ("nora", "Nora"),
        ("owen", "Owen"),
        ("priya", "Priya"),
        ("sam", "Sam"),
        ("tess", "Tess"),
        ("umar", "Umar"),
        ("violet", "Violet"),
        ("wendell", "Wendell"),
        ("yasmin", "Yasmin"),
    ),
    family=(("hart", "Hart"), ("okafor", "Okafor"), ("lindley", "Lindley")),
)

SPANISH = Language(
    code="es",
    posts={
        "birds": (
            "Hoy vi {n} veces al {thing} cerca de {place}. Qué maravilla.",
            "El {thing} ha vuelto a {place}, a la misma rama de siempre.",
            "¿Alguien más oye al {thing} de noche en {place}?",
        ),
        "bread": (
            "Mi {thing} fermentó {n} horas y salió perfecto.",
            "Horneé un {thing} con harina del molino de {place}.",
            "La masa madre cumple {n} días y ya pide nombre.",
        ),
        "bicycles": (
            "{n} kilómetros hasta {place} y solo se rompió el {thing}.",
            "Le arreglé el {thing} a la vecina y me pagó con naranjas.",
            "Por fin abrieron el carril bici de {place}.",
        ),
        "stars": (
            "Cielo limpio sobre {place}: se veía {thing} a simple vista.",
            "Conté {n} estrellas fugaces mientras buscaba {thing}.",
            "Esta noche toca {thing}. Traigan abrigo y café.",
        ),
        "books": (
            "Terminé {thing} en un banco de {place}. No estaba listo para el final.",
            "En la librería de {place} venden {thing} por {n} monedas.",
            "Leer {thing} en voz alta lleva {n} noches. Lo recomiendo.",
        ),
        "trains": (
            "El tren nocturno a {place} llegó {n} minutos antes. Inaudito.",
            "Vi un {thing} recién pintado en la estación de {place}.",
            "Llevo {n} horas dibujando un {thing} de memoria.",
        ),
    },
    things={
        "birds": ("martín pescador", "petirrojo", "búho", "jilguero"),
        "bread": ("pan de centeno", "bollo", "pan de pueblo", "roscón"),
        "bicycles": ("cambio", "freno", "sillín", "pedal"),
        "stars": ("Saturno", "Andrómeda", "Orión", "la Vía Láctea"),
        "books": ("Rayuela", "Pedro Páramo", "Ficciones", "Niebla"),
        "trains": ("tranvía", "tren de vapor", "coche cama", "ferrobús"),
    },
    tags={
        "birds": "aves",
        "bread": "masamadre",
        "bicycles": "bicicleta",
        "stars": "astronomía",
        "books": "lectura",
        "trains": "trenes",
    },
    places=("el puerto", "la plaza vieja", "el río", "Lavapiés", "el mirador"),
    replies=(
        "Me has alegrado la mañana.",
        "No tenía ni idea, ¡gracias!",
        "A mí me pasó lo mismo el año pasado.",
        "La próxima vez pon una foto, por favor.",
        "Totalmente de acuerdo.",
    ),
    quotes=("Esto hay que leerlo.", "¡Miren esto!", "Me lo apunto."),
    bio="Sobre todo {topic} y {other}. Pregunto demasiado.",
    given=(
        ("marta", "Marta"),
        ("ivan", "Iván"),
        ("lucia", "Lucía"),
        ("tomas", "Tomás"),
        ("pilar", "Pilar"),
        ("diego", "Diego"),
        ("ines", "Inés"),
        ("raul", "Raúl"),
        ("elena", "Elena"),
    ),
    family=(("vidal", "Vidal"), ("quiroga", "Quiroga"), ("ibarra", "Ibarra")),
)

PORTUGUESE = Language(
    code="pt",
    posts={
        "birds": (
            "Vi um {thing} em {place} e esqueci o café no fogo.",
            "O {thing} voltou a {place}. Contei {n} ninhos.",
            "Alguém sabe por que o {thing} canta às {n} da manhã?",
        ),
        "bread": (
            "O meu {thing} cresceu durante {n} horas. Valeu a pena.",
            "Fiz {thing} com farinha do moinho de {place}.",
            "Dia {n} do fermento natural. Cheira a {place} depois da chuva.",
        ),
        "bicycles": (
            "{n} quilómetros até {place} e só partiu o {thing}.",
            "Consertei o {thing} do vizinho em troca de bolo.",
            "A ciclovia de {place} abriu hoje, finalmente.",
        ),
        "stars": (
            "Céu limpo em {place}: deu para ver {thing} sem telescópio.",
            "Contei {n} meteoros à espera de {thing}.",
            "Hoje à noite há {thing}. Tragam casaco.",
        ),
        "books": (
            "Acabei {thing} num banco em {place}. Que final!",
            "Na feira de {place} encontrei {thing} por {n} moedas.",
            "Ler {thing} em voz alta demora {n} noites.",
        ),
        "trains": (
            "O comboio da noite para {place} chegou {n} minutos mais cedo.",
            "Vi um {thing} pintado de novo na estação de {place}.",
            "Passei {n} horas a desenhar um {thing}.",
        ),
    },
    things={
        "birds": ("guarda-rios", "pintassilgo", "mocho", "melro"),
        "bread": ("pão de centeio", "pão de milho", "folar", "broa"),
        "bicycles": ("pedal", "travão", "selim", "pneu"),
        "stars": ("Saturno", "a Via Láctea", "Júpiter", "Andrómeda"),
        "books": ("Os Maias", "Dom Casmurro", "Mensagem", "Sagarana"),
        "trains": ("elétrico", "comboio a vapor", "vagão-cama", "bonde"),
    },
    tags={
        "birds": "pássaros",
        "bread": "fermentonatural",
        "bicycles": "bicicletas",
        "stars": "astronomia",
        "books": "leituras",
        "trains": "comboios",
    },
    places=("Ribeira", "a serra", "o jardim", "Alfama", "a ponte"),
    replies=(
        "Adorei, obrigado por partilhar.",
        "Não fazia ideia!",
        "Comigo foi igual, mas demorou o dobro.",
        "Queremos fotografias.",
        "Concordo plenamente.",
    ),
    quotes=("Leiam isto.", "Vou guardar para depois.", "Que coisa boa!"),
    bio="Quase sempre {topic} e {other}. Faço perguntas a mais.",
    given=(
        ("joana", "Joana"),
        ("rui", "Rui"),
        ("beatriz", "Beatriz"),
        ("caio", "Caio"),
        ("leonor", "Leonor"),
        ("davi", "Davi"),
        ("sofia", "Sofia"),
        ("nuno", "Nuno"),
        ("livia", "Lívia"),
    ),
    family=(("moreira", "Moreira"), ("tavares", "Tavares"), ("prado", "Prado")),
)

GERMAN = Language(
    code="de",
    posts={
        "birds": (
            "Heute früh {n} Mal {thing} am Ufer bei {place} gesehen.",
            "{thing} ist zurück, wieder auf demselben Ast bei {place}.",
            "Wer erkennt diesen Ruf? Ich tippe auf {thing}, {n} Versuche bisher.",
        ),
        "bread": (
            "Mein {thing} ging {n} Stunden und die Kruste knistert noch.",
            "{thing} mit Mehl aus der Mühle bei {place} gebacken.",
            "Tag {n} mit dem Sauerteig. Er riecht nach {place} im Regen.",
        ),
        "bicycles": (
            "{n} Kilometer bis {place}, unterwegs ist nur {thing} gerissen.",
            "{thing} beim Nachbarn repariert, bezahlt wurde in Äpfeln.",
            "Der Radweg an {place} ist endlich offen.",
        ),
        "stars": (
            "Klarer Himmel über {place}: {thing} ganz ohne Fernglas.",
            "{n} Sternschnuppen gezählt, dann zogen Wolken vor {thing}.",
            "Heute Nacht ist {thing} dran. Bringt warme Socken mit.",
        ),
        "books": (
            "{thing} auf der Bank an {place} zu Ende gelesen. Uff.",
            "Im Antiquariat an {place} gab es {thing} für {n} Münzen.",
            "{thing} laut vorzulesen dauert {n} Abende. Lohnt sich.",
        ),
        "trains": (
            "Der Nachtzug nach {place} war {n} Minuten zu früh. Unerhört.",
            "{thing} frisch lackiert im Bahnhof {place} gesehen.",
            "{n} Stunden lang {thing} aus dem Gedächtnis gezeichnet.",
        ),
    },
    things={
        "birds": ("Eisvogel", "Zaunkönig", "Graureiher", "Rotkehlchen"),
        "bread": ("Roggenbrot", "Hefezopf", "Bauernbrot", "Brezel"),
        "bicycles": ("Bremszug", "Kette", "Speiche", "Schaltung"),
        "stars": ("Saturn", "Orionnebel", "Andromeda", "Jupiter"),
        "books": ("Der Zauberberg", "Momo", "Effi Briest", "Faust"),
        "trains": ("Dampflok", "Schienenbus", "Straßenbahn", "Schlafwagen"),
    },
    tags={
        "birds": "vögel",
        "bread": "sauerteig",
        "bicycles": "fahrrad",
        "stars": "sternenhimmel",
        "books": "lesen",
        "trains": "eisenbahn",
    },
    places=("Alte Mühle", "Hafen", "Nordbrücke", "Lindenplatz", "Bergheim"),
    replies=(
        "Das rettet mir den Morgen, danke.",
        "Wusste ich nicht. Woher hast du das?",
        "Ging mir genauso, nur langsamer.",
        "Bitte beim nächsten Mal mit Foto!",
        "Da bin ich höflich anderer Meinung.",
    ),
    quotes=("Das sollten alle lesen.", "Kommt auf meine Liste.", "Schaut mal!"),
    bio="Meistens {topic} und {other}. Stellt zu viele Fragen.",
    given=(
        ("greta", "Greta"),
        ("jonas", "Jonas"),
        ("frieda", "Frieda"),
        ("emre", "Emre"),
        ("lotte", "Lotte"),
        ("anton", "Anton"),
        ("mila", "Mila"),
        ("oskar", "Oskar"),
        ("hedwig", "Hedwig"),
    ),
    family=(("brandt", "Brandt"), ("yilmaz", "Yılmaz"), ("vogel", "Vogel")),
)

FRENCH = Language(
    code="fr",
    posts={
        "birds": (
            "Un {thing} près de {place} ce matin, et {n} témoins émus.",
            "Le {thing} est revenu à {place}, sur la même branche.",
            "Qui reconnaît ce chant ? Je dirais un {thing}.",
        ),
        "bread": (
            "Mon {thing} a levé {n} heures et la croûte chante.",
            "Un {thing} avec la farine du moulin de {place}.",
            "Jour {n} du levain. Il sent {place} après la pluie.",
        ),
        "bicycles": (
            "{n} kilomètres jusqu'à {place}, un seul {thing} cassé.",
            "J'ai réparé un {thing} contre un panier de pommes.",
            "La piste cyclable de {place} est enfin ouverte.",
        ),
        "stars": (
            "Ciel pur sur {place} : on voyait {thing} à l'œil nu.",
            "{n} étoiles filantes, puis les nuages ont caché {thing}.",
            "Ce soir, {thing}. Prenez un manteau et du thé.",
        ),
        "books": (
            "Fini {thing} sur un banc à {place}. Quelle fin !",
            "Le bouquiniste de {place} vend {thing} pour {n} pièces.",
            "Lire {thing} à voix haute prend {n} soirées.",
        ),
        "trains": (
            "Le train de nuit pour {place} avait {n} minutes d'avance.",
            "Aperçu un {thing} tout neuf en gare de {place}.",
            "{n} heures à dessiner un {thing} de mémoire.",
        ),
    },
    things={
        "birds": ("martin-pêcheur", "héron", "rouge-gorge", "hibou"),
        "bread": ("pain de seigle", "pain de campagne", "kouign-amann", "brioche"),
        "bicycles": ("dérailleur", "rayon", "câble de frein", "pédalier"),
        "stars": ("Saturne", "Orion", "Andromède", "la Voie lactée"),
        "books": ("La Peste", "Germinal", "Le Petit Prince", "Nadja"),
        "trains": ("tramway", "autorail", "wagon-lit", "train à vapeur"),
    },
    tags={
        "birds": "oiseaux",
        "bread": "levain",
        "bicycles": "vélo",
        "stars": "astronomie",
        "books": "lecture",
        "trains": "trains",
    },
    places=("la Croix-Rousse", "l'écluse", "la halle", "Belleville", "le phare"),
    replies=(
        "Voilà qui commence bien la journée.",
        "Je l'ignorais, merci !",
        "Pareil ici, en deux fois plus lent.",
        "Une photo la prochaine fois, s'il te plaît.",
        "Entièrement d'accord.",
    ),
    quotes=("À lire absolument.", "Je garde ça.", "Regardez-moi ça !"),
    bio="Surtout {topic} et {other}. Pose trop de questions.",
    given=(
        ("camille", "Camille"),
        ("hugo", "Hugo"),
        ("amina", "Amina"),
        ("luc", "Luc"),
        ("elodie", "Élodie"),
        ("theo", "Théo"),
        ("margot", "Margot"),
        ("idris", "Idris"),
        ("jeanne", "Jeanne"),
    ),
    family=(("roche", "Roche"), ("benali", "Benali"), ("girard", "Girard")),
)

JAPANESE = Language(
    code="ja",
    posts={
        "birds": (
            "今朝、{place}で{thing}を{n}羽見つけた。まだ誰も起きていない。",
            "{thing}が{place}に帰ってきた。去年と同じ枝に。",
            "{place}で鳴いているのは{thing}だと思う。誰か教えて。",
        ),
        "bread": (
            "{thing}を{n}時間発酵させた。待ったかいがあった。",
            "{place}の粉で{thing}を焼いた。皮がぱりぱり。",
            "天然酵母{n}日目。雨上がりの{place}の匂いがする。",
        ),
        "bicycles": (
            "{place}まで{n}キロ走った。壊れたのは{thing}だけ。",
            "隣の人の{thing}を直したら、りんごをもらった。",
            "{place}の自転車道がやっと開通した。",
        ),
        "stars": (
            "{place}の空は快晴。{thing}が肉眼で見えた。",
            "一時間に流れ星を{n}個。そのあと{thing}は雲の中。",
            "今夜は{thing}の観測会。温かいお茶を持ってきて。",
        ),
        "books": (
            "{place}のベンチで『{thing}』を読み終えた。結末に言葉が出ない。",
            "{place}の古本屋で『{thing}』が{n}百円だった。",
            "『{thing}』を声に出して読むと{n}晩かかる。おすすめ。",
        ),
        "trains": (
            "{place}行きの夜行列車が{n}分早く着いた。珍しい。",
            "{place}駅で塗り直したばかりの{thing}を見た。",
            "{thing}を記憶だけで描いている。もう{n}時間。",
        ),
    },
    things={
        "birds": ("カワセミ", "シジュウカラ", "フクロウ", "アオサギ"),
        "bread": ("食パン", "あんパン", "ライ麦パン", "メロンパン"),
        "bicycles": ("チェーン", "ブレーキ", "サドル", "ペダル"),
        "stars": ("土星", "オリオン座", "天の川", "木星"),
        "books": ("こころ", "雪国", "銀河鉄道の夜", "草枕"),
        "trains": ("蒸気機関車", "路面電車", "寝台列車", "気動車"),
    },
    tags={
        "birds": "野鳥",
        "bread": "パン作り",
        "bicycles": "自転車",
        "stars": "天体観測",
        "books": "読書",
        "trains": "鉄道",
    },
    places=("鎌倉", "隅田川", "港の公園", "吉祥寺", "峠の茶屋"),
    replies=(
        "朝から元気が出ました。ありがとう。",
        "知りませんでした！",
        "うちも同じです。倍の時間がかかったけど。",
        "次は写真もお願いします。",
        "まったく同感です。",
    ),
    quotes=("みんな読んでほしい。", "メモしておこう。", "これはすごい。"),
    bio="{topic}と{other}が好き。質問ばかりしています。",
    given=(
        ("hana", "花"),
        ("kenji", "健二"),
        ("yui", "結衣"),
        ("ren", "蓮"),
        ("aoi", "葵"),
        ("sora", "空"),
        ("misaki", "美咲"),
        ("haruto", "陽翔"),
        ("mei", "芽衣"),
    ),
    family=(("sato", "佐藤"), ("kobayashi", "小林"), ("mori", "森")),
    family_first=True,
)

KOREAN = Language(
    code="ko",
    posts={
        "birds": (
            "오늘 아침 {place}에서 {thing} {n}마리를 봤어요.",
            "{thing} 소식: {place}에 다시 돌아왔습니다.",
            "{place}에서 우는 새, 혹시 {thing}일까요?",
        ),
        "bread": (
            "{thing} 반죽을 {n}시간 발효했더니 정말 맛있어요.",
            "{place} 방앗간 밀가루로 {thing}을 구웠습니다.",
            "천연 발효종 {n}일째. 비 온 뒤 {place} 냄새가 나요.",
        ),
        "bicycles": (
            "{place}까지 {n}킬로미터, 고장 난 건 {thing} 하나.",
            "이웃집 {thing} 고쳐 주고 사과를 받았어요.",
            "{place} 자전거 길이 드디어 열렸습니다.",
        ),
        "stars": (
            "{place} 하늘이 맑아서 {thing}이 잘 보였어요.",
            "한 시간 동안 별똥별 {n}개, 그리고 {thing}.",
            "오늘 밤은 {thing} 관측. 따뜻하게 입고 오세요.",
        ),
        "books": (
            "{place} 벤치에서 <{thing}>을 다 읽었습니다.",
            "{place} 헌책방에서 <{thing}>을 {n}천 원에 샀어요.",
            "<{thing}> 소리 내어 읽기, {n}일 걸렸습니다.",
        ),
        "trains": (
            "{place}행 밤기차가 {n}분 일찍 왔어요. 신기하네요.",
            "{place}역에서 새로 칠한 {thing}을 봤습니다.",
            "{thing}을 기억만으로 그리는 중. {n}시간째.",
        ),
    },
    things={
        "birds": ("물총새", "딱새", "올빼미", "왜가리"),
        "bread": ("호밀빵", "식빵", "단팥빵", "바게트"),
        "bicycles": ("체인", "브레이크", "안장", "페달"),
        "stars": ("토성", "목성", "오리온", "은하수"),
        "books": ("광장", "토지", "소나기", "무정"),
        "trains": ("증기 기관차", "전차", "침대차", "무궁화호"),
    },
    tags={
        "birds": "탐조",
        "bread": "빵굽기",
        "bicycles": "자전거",
        "stars": "별보기",
        "books": "독서",
        "trains": "기차",
    },
    places=("한강", "북촌", "부산항", "남산", "전주"),
    replies=(
        "덕분에 아침이 즐거워졌어요.",
        "몰랐던 이야기네요. 고마워요!",
        "저도 그랬어요. 두 배나 걸렸지만요.",
        "다음에는 사진도 올려 주세요.",
        "완전히 동의합니다.",
    ),
    quotes=("모두 읽어 보세요.", "적어 둬야겠다.", "이것 좀 보세요!"),
    bio="{topic}, 그리고 {other}. 질문이 많은 편입니다.",
    given=(
        ("minji", "민지"),
        ("jiho", "지호"),
        ("seoyeon", "서연"),
        ("hyun", "현"),
        ("dahye", "다혜"),
        ("taeyang", "태양"),
        ("eunbi", "은비"),
        ("joon", "준"),
        ("sumin", "수민"),
    ),
    family=(("kim", "김"), ("park", "박"), ("han", "한")),
    family_first=True,
)

UKRAINIAN = Language(
    code="uk",
    posts={
        "birds": (
            "Сьогодні вранці {thing} сидів біля {place}. Тиша і {n} горобців.",
            "Знову прилетів {thing}. Та сама гілка біля {place}.",
            "Чий це голос біля {place}? Думаю, що {thing}.",
        ),
        "bread": (
            "Мій {thing} підходив {n} годин, і воно того варте.",
            "Спекла {thing} з борошна від млина біля {place}.",
            "День {n} закваски. Пахне, як дощ біля {place}.",
        ),
        "bicycles": (
            "{n} кілометрів до {place}, і зламався тільки {thing}.",
            "Полагодив сусідам {thing}, заплатили яблуками.",
            "Велодоріжку біля {place} нарешті відкрили.",
        ),
        "stars": (
            "Чисте небо біля {place}: {thing} видно без телескопа.",
            "Нарахували {n} метеорів, а потім {thing} сховався.",
            "Сьогодні вночі {thing}. Беріть теплий одяг.",
        ),
        "books": (
            "Дочитала «{thing}» на лавці біля {place}.",
            "У букініста біля {place} «{thing}» за {n} гривень.",
            "Читати «{thing}» уголос можна {n} вечорів.",
        ),
        "trains": (
            "Нічний потяг до {place} прибув на {n} хвилин раніше.",
            "На станції біля {place} стоїть {thing}, щойно пофарбований.",
            "Малюю {thing} з пам'яті вже {n} годин.",
        ),
    },
    things={
        "birds": ("рибалочка", "лелека", "щиголь", "сич"),
        "bread": ("житній хліб", "калач", "батон", "пиріг"),
        "bicycles": ("ланцюг", "педаль", "гальмо", "багажник"),
        "stars": ("Сатурн", "Юпітер", "Оріон", "Чумацький Шлях"),
        "books": ("Тіні забутих предків", "Кобзар", "Місто", "Лісова пісня"),
        "trains": ("паровоз", "трамвай", "вагон", "дизель"),
    },
    tags={
        "birds": "птахи",
        "bread": "закваска",
        "bicycles": "велосипед",
        "stars": "астрономія",
        "books": "читання",
        "trains": "залізниця",
    },
    places=("річки", "старого мосту", "Подолу", "озера", "вокзалу"),
    replies=(
        "Дякую, це підняло настрій.",
        "Не знав про це. Звідки така новина?",
        "У мене так само, тільки довше.",
        "Наступного разу з фото, будь ласка!",
        "Цілком погоджуюся.",
    ),
    quotes=("Прочитайте всі.", "Записую собі.", "Погляньте!"),
    bio="Здебільшого {topic} та {other}. Багато питаю.",
    given=(
        ("oksana", "Оксана"),
        ("taras", "Тарас"),
        ("solomiya", "Соломія"),
        ("andriy", "Андрій"),
        ("daryna", "Дарина"),
        ("maksym", "Максим"),
        ("zoriana", "Зоряна"),
        ("bohdan", "Богдан"),
        ("iryna", "Ірина"),
    ),
    family=(("koval", "Коваль"), ("melnyk", "Мельник"), ("savchuk", "Савчук")),
)

LANGUAGES = (
    ENGLISH, SPANISH, PORTUGUESE, GERMAN, FRENCH, JAPANESE, KOREAN, UKRAINIAN,
)  # fmt: skip
