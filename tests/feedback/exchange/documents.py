"""Documents as Argilla and Label Studio export them."""

from __future__ import annotations

U1, U2 = "8f2c6a0e-52b1-4a4b-9a77-2f1f0a3d9c11", "0b9d1c52-7c1e-4d83-a1f0-5cfe2f6b7e02"

ARGILLA_2 = [
    {
        "id": "ultrafeedback-17",
        "fields": {
            "prompt": "Explain why the sky is blue to a child.",
            "response-1": "Sunlight bounces off the air, and blue bounces most.",
            "response-2": "Rayleigh scattering scales with the inverse fourth power.",
        },
        "metadata": {"source": "ultrafeedback", "length_difference": -3},
        "suggestions": {"preference": {"value": "response-1", "score": 0.9, "agent": "judge-v1"}},
        "responses": {
            "preference": [
                {"value": "response-1", "user_id": U1},
                {"value": "response-2", "user_id": U2},
            ],
            "comments": [{"value": "for a child", "user_id": U1}],
        },
        "vectors": {},
        "status": "completed",
        "_server_id": "6d3f2b0e-1111-4222-8333-444455556666",
    },
    {
        "id": "ultrafeedback-18",
        "fields": {
            "prompt": [
                {"role": "user", "content": "Name a river."},
                {"role": "assistant", "content": "The Po."},
                {"role": "user", "content": "A longer one."},
            ],
            "response-1": "The Nile.",
            "response-2": "The Rhine.",
        },
        "metadata": {},
        "suggestions": {},
        "responses": {"preference": [{"value": "tie", "user_id": U1}]},
        "vectors": {},
        "_server_id": None,
    },
]
ARGILLA_1 = [
    {
        "fields": {"instruction": "Name three", "response": "a, b", "response-2": "a, b, c"},
        "responses": [
            {
                "user_id": U1,
                "values": {
                    "ranking": {
                        "value": [
                            {"value": "response", "rank": 2},
                            {"value": "response-2", "rank": 1},
                        ]
                    }
                },
                "status": "submitted",
            },
            {"user_id": U2, "values": {"ranking": {"value": []}}, "status": "discarded"},
        ],
        "suggestions": [],
        "metadata": {},
        "external_id": "x-1",
    }
]
LABEL_STUDIO = [
    {
        "id": 101,
        "data": {
            "prompt": "Write a haiku about rain.",
            "answer1": "Rain on the tin roof",
            "answer2": "Rain rain rain rain rain",
            "meta:model": "two models",
        },
        "annotations": [
            {
                "id": 7001,
                "completed_by": 10,
                "result": [
                    {
                        "id": "Dx_aB91ISN",
                        "type": "pairwise",
                        "value": {"selected": "left"},
                        "origin": "manual",
                        "to_name": "answer1,answer2",
                        "from_name": "comparison",
                    }
                ],
                "was_cancelled": False,
                "ground_truth": False,
                "created_at": "2024-03-09T22:16:08.728353Z",
                "lead_time": 14.288,
                "task": 101,
            },
            {
                "id": 7002,
                "completed_by": {"id": 11, "email": "ada@example.org"},
                "result": [],
                "was_cancelled": True,
                "ground_truth": False,
                "lead_time": 2.0,
            },
            {
                "id": 7003,
                "completed_by": {"id": 11, "email": "ada@example.org"},
                "result": [
                    {
                        "type": "pairwise",
                        "value": {"selected": "right"},
                        "to_name": "answer1,answer2",
                        "from_name": "comparison",
                    }
                ],
                "was_cancelled": False,
                "ground_truth": True,
                "lead_time": 30.5,
            },
        ],
        "predictions": [],
        "project": 83,
        "created_at": "2024-03-09T21:52:49.513742Z",
    }
]
RANKER = [
    {
        "id": 5,
        "data": {
            "prompt": "What is an arrow function?",
            "items": [
                {"id": "blog", "title": "10 tips", "body": "There is nothing worse."},
                {"id": "mdn", "title": "Arrow", "body": "A compact alternative."},
                {"id": "wiki", "title": "Arrow (CS)", "body": "In computer science."},
            ],
        },
        "annotations": [
            {
                "completed_by": 3,
                "lead_time": 9.0,
                "result": [
                    {
                        "from_name": "rank",
                        "to_name": "results",
                        "type": "ranker",
                        "value": {"ranker": {"rank": ["mdn", "wiki", "blog"]}},
                    }
                ],
            }
        ],
    }
]
