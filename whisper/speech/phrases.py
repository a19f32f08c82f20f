"""The words of the generated sentences in five languages: tables only, each row one thing in every language."""

from __future__ import annotations

LANGUAGES = ("en", "de", "es", "fr", "it")

Row = dict[str, str]


def _rows(*rows: str) -> tuple[Row, ...]:
    return tuple(dict(zip(LANGUAGES, (cell.strip() for cell in row.split("|")), strict=True)) for row in rows)


NAMES = ("Anna", "Peter", "Laura", "Thomas", "Maria", "Daniel")

WEEKDAYS = _rows(
    "Monday | Montag | lunes | lundi | lunedì",
    "Tuesday | Dienstag | martes | mardi | martedì",
    "Wednesday | Mittwoch | miércoles | mercredi | mercoledì",
    "Thursday | Donnerstag | jueves | jeudi | giovedì",
    "Friday | Freitag | viernes | vendredi | venerdì",
    "Saturday | Samstag | sábado | samedi | sabato",
    "Sunday | Sonntag | domingo | dimanche | domenica",
)

MONTHS = _rows(
    "January | Januar | enero | janvier | gennaio",
    "February | Februar | febrero | février | febbraio",
    "March | März | marzo | mars | marzo",
    "April | April | abril | avril | aprile",
    "May | Mai | mayo | mai | maggio",
    "June | Juni | junio | juin | giugno",
    "July | Juli | julio | juillet | luglio",
    "August | August | agosto | août | agosto",
    "September | September | septiembre | septembre | settembre",
    "October | Oktober | octubre | octobre | ottobre",
    "November | November | noviembre | novembre | novembre",
    "December | Dezember | diciembre | décembre | dicembre",
)

ROOMS = _rows(
    "the kitchen | die Küche | la cocina | la cuisine | la cucina",
    "the bedroom | das Schlafzimmer | el dormitorio | la chambre | la camera",
    "the living room | das Wohnzimmer | el salón | le salon | il soggiorno",
    "the bathroom | das Bad | el baño | la salle de bain | il bagno",
    "the office | das Büro | la oficina | le bureau | l'ufficio",
    "the garage | die Garage | el garaje | le garage | il garage",
)

IN_ROOMS = _rows(
    "in the kitchen | in der Küche | en la cocina | dans la cuisine | in cucina",
    "in the bedroom | im Schlafzimmer | en el dormitorio | dans la chambre | in camera",
    "in the living room | im Wohnzimmer | en el salón | dans le salon | in soggiorno",
    "in the bathroom | im Bad | en el baño | dans la salle de bain | in bagno",
    "in the office | im Büro | en la oficina | dans le bureau | in ufficio",
    "in the garage | in der Garage | en el garaje | dans le garage | in garage",
)

DEVICES = _rows(
    "the light | das Licht | la luz | la lumière | la luce",
    "the radio | das Radio | la radio | la radio | la radio",
    "the heating | die Heizung | la calefacción | le chauffage | il riscaldamento",
    "the television | den Fernseher | la televisión | la télévision | la televisione",
    "the fan | den Ventilator | el ventilador | le ventilateur | il ventilatore",
)

SWITCHES = _rows(
    "Turn on {device} {in_room}. | Schalte {device} {in_room} ein. | Enciende {device} {in_room}. "
    "| Allume {device} {in_room}. | Accendi {device} {in_room}.",
    "Turn off {device} {in_room}. | Schalte {device} {in_room} aus. | Apaga {device} {in_room}. "
    "| Éteins {device} {in_room}. | Spegni {device} {in_room}.",
)

ITEMS = _rows(
    "apples | Äpfel | manzanas | pommes | mele",
    "eggs | Eier | huevos | œufs | uova",
    "lemons | Zitronen | limones | citrons | limoni",
    "tomatoes | Tomaten | tomates | tomates | pomodori",
    "bottles of water | Flaschen Wasser | botellas de agua | bouteilles d'eau | bottiglie d'acqua",
    "potatoes | Kartoffeln | patatas | pommes de terre | patate",
)

TEMPLATES = {
    kind: dict(zip(LANGUAGES, forms, strict=True))
    for kind, forms in {
        "number": (
            "The number is {number}.",
            "Die Zahl ist {number}.",
            "El número es {number}.",
            "Le nombre est {number}.",
            "Il numero è {number}.",
        ),
        "code": (
            "The code is {digits}.",
            "Der Code ist {digits}.",
            "El código es {digits}.",
            "Le code est {digits}.",
            "Il codice è {digits}.",
        ),
        "song": (
            "Play song number {number}.",
            "Spiel Lied Nummer {number}.",
            "Pon la canción número {number}.",
            "Joue la chanson numéro {number}.",
            "Metti la canzone numero {number}.",
        ),
        "clock": ("It is {time}.", "Es ist {time}.", "{Time_is}.", "Il est {time}.", "{Time_is}."),
        "alarm": (
            "Wake me up at {time}.",
            "Weck mich um {time}.",
            "Despiértame {at_time}.",
            "Réveille-moi à {time}.",
            "Svegliami {at_time}.",
        ),
        "call": (
            "Call {name} at {time}.",
            "Ruf {name} um {time} an.",
            "Llama a {name} {at_time}.",
            "Appelle {name} à {time}.",
            "Chiama {name} {at_time}.",
        ),
        "remind": (
            "Remind me on {weekday} at {time}.",
            "Erinnere mich am {weekday} um {time}.",
            "Recuérdamelo el {weekday} {at_time}.",
            "Rappelle-le-moi {weekday} à {time}.",
            "Ricordamelo {weekday} {at_time}.",
        ),
        "today": (
            "Today is {weekday}, {date}.",
            "Heute ist {weekday}, {date}.",
            "Hoy es {weekday}, {date}.",
            "Nous sommes {weekday}, {date}.",
            "Oggi è {weekday}, {date}.",
        ),
        "meeting": (
            "The meeting is on {date}.",
            "Das Treffen ist am {on_date}.",
            "La reunión es {date}.",
            "La réunion est {date}.",
            "La riunione è {date}.",
        ),
        "timer": (
            "Set a timer for {count} minutes.",
            "Stell einen Timer auf {count} Minuten.",
            "Pon un temporizador de {count} minutos.",
            "Mets un minuteur de {count} minutes.",
            "Imposta un timer di {count} minuti.",
        ),
        "warmth": (
            "Set {room} to {count} degrees.",
            "Stell {room} auf {count} Grad.",
            "Pon {room} a {count} grados.",
            "Mets {room} à {count} degrés.",
            "Imposta {room} a {count} gradi.",
        ),
        "list": (
            "Add {count} {item} to the list.",
            "Setz {count} {item} auf die Liste.",
            "Añade {count} {item} a la lista.",
            "Ajoute {count} {item} à la liste.",
            "Aggiungi {count} {item} alla lista.",
        ),
        "switch": ("{switch}",) * 5,
    }.items()
}
"""Kind of sentence to its form in each language."""
